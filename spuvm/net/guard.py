"""What all channels share: one exchange at a time, and failures that stay."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Array, Channel, Spec, Stats, party

PATIENCE: Final = 1.0
"""Seconds that `abort` and `close` wait for the exchange of another thread to notice them."""


class GuardedChannel(Channel):
    """Runs `_exchange` of a subclass under a lock, and not again after it failed."""

    def __init__(
        self, rank: int, peers: Sequence[int], timeout: float, names: Sequence[str]
    ) -> None:
        self.rank = rank
        self.peers = tuple(sorted(peers))
        self.stats = Stats()
        self.timeout = timeout
        self._names = {peer: party(peer, names) for peer in (rank, *self.peers)}
        self._busy = threading.Lock()
        self._failure: ChannelError | None = None  # raised by every exchange from now on
        self._stop: str | None = None  # why this party's own side left: set by any thread

    @abstractmethod
    def _exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]: ...

    def exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        if not self._busy.acquire(False):
            raise UsageError("two threads exchange on one channel at once")
        try:
            if self._failure is not None or self._stop is not None:
                raise self._stopped()
            return self._exchange(sends, receives)
        except ChannelError as error:
            self._failure = error.with_traceback(None)
            raise
        except BaseException as error:  # frames may be half sent: nothing can follow them
            self._failure = ChannelError(
                "the channel is unusable after an error in the middle of an exchange",
                got=type(error).__name__,
                next="abort and close it, and start a new session",
            )
            raise
        finally:
            self._busy.release()

    def _stopped(self) -> ChannelError:
        """The failure again, as a new exception."""
        if self._failure is not None:
            e = self._failure
            return ChannelError(e.message, at=e.at, got=e.got, expected=e.expected, next=e.next)
        return ChannelError(f"this party has left the channel: {self._stop}")

    def _unknown(self, peer: object) -> UsageError:
        return UsageError("no such peer", got=f"rank {peer}", expected=f"one of {self.peers}")

    def _late(self, peer: int, awaited: str) -> ChannelError:
        name = self._names[peer]
        return ChannelError(
            f"{name} made no progress for {self.timeout:g} s",
            expected=awaited,
            next=f"see whether {name} is alive and runs the same program; "
            "a longer timeout helps if it computes for so long",
        )


def wrong_length(name: str, got: int, expected: int) -> ChannelError:
    """The error for a frame that is not the one of the schedule."""
    return ChannelError(
        f"{name} sent a frame of another length",
        got=f"{got} bytes",
        expected=f"{expected} bytes",
        next="make sure that all parties run the same program with the same shapes",
    )
