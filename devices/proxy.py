"""Classes whose instances live at a party."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

from spuvm.devices.base import checked_results, pack
from spuvm.devices.calls import check_function
from spuvm.devices.pyu import PYU, PYUObject, mixed
from spuvm.devices.session import current
from spuvm.errors import UsageError


class Proxy:
    """A handle of an instance at a party; its methods run there and return PYUObjects.

    Instances keep state between calls; calls run one after another in the order they are made.
    """

    _cls: type
    device: PYU

    def __init_subclass__(cls) -> None:
        if "_cls" not in vars(cls):
            raise UsageError(
                "a class that lives at a party cannot be derived from",
                got=f"class {cls.__name__}({', '.join(base.__name__ for base in cls.__bases__)})",
                next="derive from the class itself, and decorate the last one: "
                f"sf.proxy(sf.PYUObject)({cls.__name__})",
            )

    def __init__(self, *args: Any, device: PYU | None = None, **kwargs: Any) -> None:
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
        self._calling = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        method = getattr(self._cls, name, None)
        if not callable(method):
            raise AttributeError(
                f"{self._cls.__name__} has no method {name!r}; only methods are reachable"
            )
        what = f"{self._cls.__name__}.{name}"

        def start(*args: Any, num_returns: int | None = None, **kwargs: Any) -> Any:
            check_function(method, "an instance at a party")
            if current() is not self._session:
                raise UsageError(f"{self!r} belongs to a session that was shut down")
            results = checked_results(num_returns)
            call, refs = pack(self.device.party, what, args, kwargs, results)
            self._session.flow.note(self.device.party, self.device.party, "work", what)
            with self._calling:  # what a method is given is known to all that are called later
                out = self._session.backend.invoke(self._resident, what, name, call, refs)
                self._origins = tuple(sorted({*self._origins, *mixed(self.device.party, refs)}))
                handles = self.device.handles(out, results, self._origins)
            for one in (handles,) if results is None else handles:
                one.keeps = self
            return handles

        return start

    def __setattr__(self, name: str, value: object) -> None:
        if name != "device" and not name.startswith("_"):
            raise UsageError(
                f"{self!r} lives at a party: an attribute cannot be set here",
                got=repr(name),
                next="write a method that sets it, and call that",
            )
        super().__setattr__(name, value)

    def __reduce__(self) -> NoReturn:
        raise not_a_value(self, "what travels")

    def __repr__(self) -> str:
        return f"{self._cls.__name__}(device={self.device!r})"


def not_a_value(instance: Proxy, what: str) -> UsageError:
    """The error for a proxied instance where a value is expected."""
    return UsageError(
        f"{what}: an instance at a party is not a value",
        got=repr(instance),
        next="take what one of its methods returns",
    )


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
        if issubclass(cls, Proxy):
            raise UsageError("this class lives at a party already", got=cls.__name__)
        return type(cls.__name__, (Proxy,), {"_cls": cls, "__doc__": cls.__doc__})

    return decorate
