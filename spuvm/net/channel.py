"""What a party's links to its two peers can do: one exchange of arrays per round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """What went out so far: payload bytes without headers, frames, by peer."""

    bytes_sent: int = 0
    frames_sent: int = 0
    bytes_received: int = 0


class Channel(ABC):
    """Links of one party to its peers.

    A frame is a list of flat arrays to one peer in one round; frames between two parties arrive in
    order. Both ends know from the schedule what is expected, so a frame carries no types: only its
    round number and length, which the receiver checks before it allocates anything.
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

        Sent arrays must be C-contiguous and must not be written to afterwards; received ones are
        flat and may be read-only. Both sides may send first without deadlock, whatever the sizes.

        Raises:
            ChannelError: no progress within the deadline, a peer closed or aborted (with its
                message), or a frame with another round number or length than expected.
        """

    @abstractmethod
    def abort(self, message: str) -> None:
        """Tell the peers, best effort, that this party failed; their next exchange raises it."""

    @abstractmethod
    def close(self) -> None:
        """Release the links; idempotent."""
