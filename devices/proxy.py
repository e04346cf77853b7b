"""Classes whose instances live at a party."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spuvm.devices.base import checked_results, pack
from spuvm.devices.pyu import PYU, PYUObject, mixed
from spuvm.devices.session import current
from spuvm.errors import UsageError


class Proxy:
    """A handle of an instance at a party; its methods run there and return PYUObjects.

    Instances keep state between calls; calls run one after another in the order they are made.
    """

    _cls: type
    device: PYU

    def __init__(self, *args: Any, device: PYU, **kwargs: Any) -> None:
        if not isinstance(device, PYU):
            raise UsageError(
                f"{self._cls.__name__} lives at a party",
                got=repr(device),
                expected=f"{self._cls.__name__}(..., device=PYU(...))",
            )
        self.device = device
        call, refs = pack(device.party, self._cls.__name__, args, kwargs, None)
        self._session = current()
        self._session.flow.note(device.party, device.party, "work", self._cls.__name__)
        self._resident = self._session.backend.create(
            device.party, self._cls.__name__, self._cls, call, refs
        )
        self._origins = mixed(device.party, refs)  # grows with what methods are given

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._cls, name, None) if not name.startswith("_") else None
        if not callable(method):
            raise AttributeError(
                f"{self._cls.__name__} has no method {name!r}; only methods are reachable"
            )
        what = f"{self._cls.__name__}.{name}"

        def start(*args: Any, num_returns: int | None = None, **kwargs: Any) -> Any:
            if current() is not self._session:
                raise UsageError(f"{self!r} belongs to a session that was shut down")
            results = checked_results(num_returns)
            call, refs = pack(self.device.party, what, args, kwargs, results)
            self._session.flow.note(self.device.party, self.device.party, "work", what)
            out = self._session.backend.invoke(self._resident, what, name, call, refs)
            self._origins = tuple(sorted({*self._origins, *mixed(self.device.party, refs)}))
            handles = self.device.handles(out, results, self._origins)
            for one in (handles,) if results is None else handles:
                one.keeps = self
            return handles

        return start

    def __repr__(self) -> str:
        return f"{self._cls.__name__}(device={self.device!r})"


def proxy(device_object: type[PYUObject] = PYUObject) -> Callable[[type], type[Proxy]]:
    """Class decorator: instances live at a party, ``Client(..., device=alice)``.

    Every method call returns a PYUObject (or a tuple of `num_returns` of them). The instance stands
    for its device: ``x.to(client)``.
    """
    if device_object is not PYUObject:
        raise UsageError(
            "instances live at a party's PYU", got=repr(device_object), expected="sf.PYUObject"
        )

    def decorate(cls: type) -> type[Proxy]:
        if not isinstance(cls, type):
            raise UsageError("sf.proxy decorates classes", got=repr(cls))
        return type(cls.__name__, (Proxy,), {"_cls": cls, "__doc__": cls.__doc__})

    return decorate
