"""A call that travels to a party: where its handles were, and how it runs there."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spuvm.devices.containers import leaves_in, map_leaves, snapshot
from spuvm.devices.failure import Failure, caught
from spuvm.errors import UsageError

_here = threading.local()


def at_party() -> str | None:
    """The party whose work this thread does, None in the script's threads."""
    return getattr(_here, "party", None)


@contextmanager
def working_for(party: str) -> Iterator[None]:
    """Inside, this thread does a party's work: devices cannot be driven from it."""
    before, _here.party = at_party(), party
    try:
        yield
    finally:
        _here.party = before


class Slot:
    """Marks the place in a call's arguments of the value that arrives as number `index`."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments with a Slot wherever a value of the party goes.

    results  None for one.
    at       the script's line, for errors that no line of the function's own explains.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: int | None = None
    at: str = ""

    def bind(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with every Slot replaced by its value.

        Raises:
            UsageError: a Slot is in a container that is not known as one in this process.
        """
        filled = set()

        def fill(leaf: Any) -> Any:
            if type(leaf) is not Slot:
                return leaf
            filled.add(leaf.index)
            return values[leaf.index]

        bound = map_leaves(fill, self.args), map_leaves(fill, self.kwargs)
        if len(filled) < len(values):
            raise UsageError(
                "a container of handles is not registered with JAX at this party",
                expected="lists, tuples, dicts, named tuples, dataclasses, or a class from a "
                "module that registers it",
                next="move the class from the script into a module",
            )
        return bound


def as_it_is(call: Call) -> Call:
    """A call whose arguments nobody else holds: the script may change its own afterwards."""
    named = {name: snapshot(value) for name, value in call.kwargs.items()}
    return replace(call, args=tuple(map(snapshot, call.args)), kwargs=named)


def check_function(fn: Any, device: str) -> None:
    """Raise UsageError for what does not return its result when it is called."""
    if not callable(fn):
        raise UsageError(f"{device} runs functions", got=type(fn).__name__)
    later = {
        "an async function": inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn),
        "a generator": inspect.isgeneratorfunction(fn),
    }
    for kind, found in later.items():
        if found:
            raise UsageError(
                f"{device} runs functions that return their result",
                got=f"{name_of(fn)}, {kind}",
                next="write a plain function: return a list, or asyncio.run(...) inside of it",
            )


def check_travels(leaf: Any, what: str) -> None:
    """Raise UsageError for objects of phe, also in an array of objects.

    Their pickle skips their obfuscation: a ciphertext times a plain number leaves as it is, and the
    number can be found from it.
    """
    boxed = isinstance(leaf, np.ndarray) and leaf.dtype.hasobject
    for item in leaf.reshape(-1) if boxed else (leaf,):
        if type(item).__module__.partition(".")[0] == "phe":
            raise UsageError(
                f"{what}: objects of phe do not travel",
                got=type(item).__name__,
                expected="values that a HEU device moves, or the numbers of a public key",
                next="x.to(heu), h.to(device)",
            )


def perform(
    party: str, what: str, fn: Callable[..., Any], call: Call, values: Sequence[Any]
) -> tuple[Any, ...]:
    """Run `fn` at a party: a value, or the Failure that stands for it, per result; never raises."""
    count = 1 if call.results is None else call.results
    for value in values:
        if isinstance(value, Failure):
            return (value,) * count
    try:
        args, kwargs = call.bind(values)
        with working_for(party):
            out = fn(*args, **kwargs)
        for leaf in leaves_in(out):
            check_travels(leaf, f"result of {what}")
        if call.results is None:
            return (out,)
        return _split(out, count, what)
    except BaseException as error:  # sys.exit() would end the thread for good
        return (caught(party, what, error, call.at),) * count


def _split(out: Any, count: int, what: str) -> tuple[Any, ...]:
    if not isinstance(out, tuple | list) or len(out) != count:
        size = f" of {len(out)}" if isinstance(out, tuple | list) else ""
        raise UsageError(
            f"{what} did not return as many results as num_returns says",
            got=f"{type(out).__name__}{size}",
            expected=f"a tuple of {count}",
        )
    return tuple(out)


_THE_SAME = ("", "checkpoint", "ExtendNameStackContextManager", "StateContextManager")
"""What of JAX goes around a function without changing what it computes; all others are named."""


def name_of(fn: Callable[..., Any]) -> str:
    """The name of a function for messages, policies and reports: "loss", "grad(loss)".

    JAX gives its transformed functions the name of what they transform; a gradient is something
    else, and whoever lets out the one need not let out the other. Partial functions, also those
    between two transformations, are looked through.
    """
    around: list[str] = []
    inner, name = _without_partials(fn), ""
    while True:
        name = name or str(getattr(inner, "__qualname__", "")).rpartition("<locals>.")[2]
        if not hasattr(inner, "__wrapped__"):
            break
        maker = _maker(inner)
        around += [maker] if maker not in _THE_SAME else []
        inner = _without_partials(inner.__wrapped__)
    name = name or type(inner).__name__
    return "".join(f"{maker}(" for maker in around) + name + ")" * len(around)


def _without_partials(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _maker(fn: Any) -> str:
    """The function of JAX that made `fn`, "" for all others."""
    if not str(getattr(fn, "__globals__", {}).get("__name__", "")).startswith("jax."):
        return ""
    code = fn.__code__
    held = dict(zip(code.co_freevars, fn.__closure__ or (), strict=True))
    if code.co_qualname.startswith("api_boundary.") and "fun" in held:
        code = getattr(held["fun"].cell_contents, "__code__", code)
    maker, inside, _ = code.co_qualname.partition(".<locals>.")
    return str(maker.partition(".")[0]) if inside else ""
