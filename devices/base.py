"""Devices and the handles of what lives on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from spuvm.devices.backend import Ref
from spuvm.devices.calls import Call, Slot, check_travels
from spuvm.devices.containers import map_leaves
from spuvm.devices.failure import source_line
from spuvm.devices.session import Session, current
from spuvm.errors import UsageError


class Device(ABC):
    """A place where computation happens; `device(fn)(*args)` runs there and returns a handle."""

    @abstractmethod
    def __call__(self, fn: Callable[..., Any]) -> Any:
        """A function that runs `fn` on this device."""


def _refusal(operation: str) -> Callable[..., NoReturn]:
    def refuse(self: DeviceObject, *args: object, **kwargs: object) -> NoReturn:
        raise UsageError(
            f"a handle is not its value: {operation} is not possible here",
            got=repr(self),
            next=self._instead(operation),
        )

    return refuse


class DeviceObject(ABC):
    """A handle of a value that lives on a device: it can be moved and passed on, nothing else.

    The work behind it is started at once and runs asynchronously; the value is freed when the
    handle is dropped. Handles never show data.
    """

    __slots__ = ("__weakref__", "_device", "_session")

    _device: Any
    _session: Session

    def __init__(self, device: Device) -> None:
        self._device = device
        self._session = current()

    @property
    def device(self) -> Any:
        """Where the value lives."""
        return self._device

    def to(self, device: Any) -> Any:
        """The same value on another device; a proxied instance stands for its device."""
        from spuvm.devices.moves import move

        return move(self, device)

    def check_session(self) -> None:
        """Raise UsageError when this handle belongs to a session that was shut down."""
        if current() is not self._session:
            raise UsageError(
                "this handle belongs to a session that was shut down",
                got=repr(self),
                next="make it again after sf.init",
            )

    def _instead(self, operation: str) -> str:
        if operation in ("iterating", "len()", "unpacking"):
            return "device(fn, num_returns=n) gives n handles; sf.reveal(x) gives the value"
        return "compute with it on its device: device(fn)(x); sf.reveal(x) gives the value"

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a handle cannot travel inside other data",
            got=repr(self),
            expected="handles as arguments, or in pytrees and dataclasses among the arguments",
            next="pass it as an argument of device(fn)(...) instead of capturing it in a function",
        )

    def __hash__(self) -> int:
        return id(self)

    __iter__ = _refusal("iterating")
    __len__ = _refusal("len()")
    __getitem__ = _refusal("indexing")
    __array__ = _refusal("conversion to an array")
    __jax_array__ = _refusal("conversion to an array")
    __bool__ = _refusal("a decision")
    __int__ = __float__ = __complex__ = __index__ = _refusal("conversion to a number")
    __eq__ = __ne__ = _refusal("comparison")
    __lt__ = __le__ = __gt__ = __ge__ = _refusal("comparison")
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refusal("arithmetic")
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = _refusal("arithmetic")
    __pow__ = __rpow__ = _refusal("arithmetic")


def pack(
    party: str, what: str, args: tuple[Any, ...], kwargs: dict[str, Any], results: int | None
) -> tuple[Call, list[Ref]]:
    """A call for a party: its handles become Slots.

    Raises:
        UsageError: a handle of a value that lives elsewhere, a proxied instance, a party that is
            not in this session.
    """
    from spuvm.devices.proxy import Proxy, not_a_value
    from spuvm.devices.pyu import PYUObject, check_party

    check_party(party)
    refs: list[Ref] = []

    def take(leaf: Any) -> Any:
        if isinstance(leaf, Proxy):
            raise not_a_value(leaf, f"argument of {what}")
        if not isinstance(leaf, DeviceObject):
            check_travels(leaf, f"argument of {what}")
            return leaf
        leaf.check_session()
        if not isinstance(leaf, PYUObject) or leaf.device.party != party:
            raise UsageError(
                f"{what} runs at {party!r}, but an argument lives elsewhere",
                got=repr(leaf),
                next=f"move it first: x.to(PYU({party!r}))",
            )
        refs.append(leaf.ref)
        return Slot(len(refs) - 1)

    sent = Call(map_leaves(take, args), map_leaves(take, kwargs), results, source_line())
    return sent, refs


def checked_results(num_returns: int | None) -> int | None:
    """num_returns, or an error."""
    if num_returns is not None and (type(num_returns) is not int or num_returns < 1):
        raise UsageError(
            "num_returns is None (one handle) or a number of results", got=repr(num_returns)
        )
    return num_returns
