"""PYU: plain Python at one party."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import total_ordering
from typing import Any

from spuvm.devices.backend import Ref
from spuvm.devices.base import Device, DeviceObject, checked_results, pack
from spuvm.devices.calls import check_function, name_of
from spuvm.devices.session import current
from spuvm.errors import UsageError


@total_ordering
class PYU(Device):
    """Plain Python at one party: equal, hashable and sortable by the party's name."""

    __slots__ = ("party",)

    def __init__(self, party: str) -> None:
        check_party(party)
        self.party = party

    def __call__(
        self, fn: Callable[..., Any], num_returns: int | None = None
    ) -> Callable[..., Any]:
        """A function that runs `fn` at this party and returns a PYUObject, or num_returns of them.

        Arguments may hold handles of this party's values, in lists, tuples, dicts, named tuples and
        dataclasses too; other arguments are sent along in clear, as they are at the call.

        Raises:
            UsageError: `fn` is no function, or an async function or a generator; at the call, a
                handle of a value that lives elsewhere, or what cannot be sent.
        """
        check_function(fn, "a PYU")
        results = checked_results(num_returns)
        what = name_of(fn)

        def start(*args: Any, **kwargs: Any) -> Any:
            call, refs = pack(self.party, what, args, kwargs, results)
            session = current()
            session.flow.note(self.party, self.party, "work", what)
            out = session.backend.call(self.party, what, fn, call, refs)
            return self.handles(out, results, mixed(self.party, refs))

        return start

    def handles(self, refs: tuple[Ref, ...], results: int | None, origins: tuple[str, ...]) -> Any:
        """Handles of values at this party: one, or a tuple when a number was asked for."""
        objects = tuple(PYUObject(self, replace(ref, origins=origins)) for ref in refs)
        return objects[0] if results is None else objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PYU) and other.party == self.party

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, PYU):
            return NotImplemented
        return self.party < other.party

    def __hash__(self) -> int:
        return hash((PYU, self.party))

    def __repr__(self) -> str:
        return f"PYU({self.party!r})"


def check_party(party: Any) -> None:
    """Raise UsageError for a name that is none of the session's parties."""
    known = current().parties
    if party not in known:
        raise UsageError(
            "unknown party",
            got=repr(party),
            expected=f"one of {', '.join(known)}",
            next="name it in sf.init(parties=[...])",
        )


def mixed(party: str, refs: Iterable[Ref]) -> tuple[str, ...]:
    """Whose data the result of a function at `party` depends on: its own and its arguments'."""
    return tuple(sorted({party, *(name for ref in refs for name in ref.origins)}))


class PYUObject(DeviceObject):
    """A handle of a Python value that lives at one party."""

    __slots__ = ("facts", "keeps", "ref")

    def __init__(self, device: PYU, ref: Ref) -> None:
        super().__init__(device)
        self.ref = ref
        self.keeps: Any = None  # the instance that made it: its process holds the value
        self.facts: Any = None  # the structure, once a move to an SPU has learned it

    def __repr__(self) -> str:
        from spuvm.devices.structure import describe

        tree = "?" if self.facts is None else describe(self.facts)
        return f"PYUObject({self.device.party}: {tree} from {self.ref.what})"
