"""What a party's links to its two peers can do: one exchange of arrays per round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Spec:
    """A flat array that is expected: dtype and number of elements."""

    dtype: np.dtype[Any]
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(slots=True)
class Stats:
    """What went out and came in so far, over all peers: payload without headers, and frames."""

    bytes_sent: int = 0
    frames_sent: int = 0
    bytes_received: int = 0


class Channel(ABC):
    """Links of one party to its peers.

    A frame is a list of flat arrays to one peer in one round; frames between two parties arrive in
    order. Both ends know from the schedule what is expected, so a frame carries no types: only its
    number and length, which the receiver checks before it allocates anything.

    A party may run ahead of a peer by a bounded number of bytes; beyond it, its sends wait. One
    thread exchanges; `abort` and `close` may be called from any thread. A channel that failed stays
    failed: every later exchange raises the same error. As a context manager it aborts when the
    block raised, and closes.
    """

    rank: int
    peers: tuple[int, ...]
    stats: Stats

    @abstractmethod
    def exchange(
        self,
        sends: Mapping[int, Sequence[Array]],
        receives: Mapping[int, Sequence[Spec]],
    ) -> dict[int, list[Array]]:
        """Send one frame to each peer in `sends`, receive one from each in `receives`.

        Sent arrays must be C-contiguous, and neither they nor received ones may be written to
        afterwards. Received ones are flat. Both sides may send first without deadlock, whatever
        the sizes.

        Raises:
            ChannelError: no progress within the deadline, a peer closed or aborted (with its
                message), or a frame with another number or length than expected.
            UsageError: an unknown peer, an array that is not contiguous, or two threads at once.
        """

    @abstractmethod
    def abort(self, message: str) -> None:
        """Tell the peers, best effort, that this party failed; their next exchange raises it."""

    @abstractmethod
    def close(self) -> None:
        """Release the links; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.abort(f"{type(error).__name__}: {error}")
        finally:
            self.close()


def party(rank: int, names: Sequence[str]) -> str:
    """How messages speak of a party: by its name where known, always with its rank."""
    return f"party '{names[rank]}' (rank {rank})" if names else f"party {rank}"
