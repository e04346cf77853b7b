"""A call that travels to a party: where its handles were, and how it runs there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spuvm.devices.failure import Failure, caught
from spuvm.errors import UsageError


@dataclass(frozen=True, slots=True)
class Slot:
    """Marks the place in a call's arguments of the value that arrives as number `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments with a Slot wherever a value of the party goes; `results`: None for one."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: int | None = None

    def bind(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with every Slot replaced by its value."""

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if type(leaf) is Slot else leaf

        return map_leaves(fill, self.args), map_leaves(fill, self.kwargs)


def map_leaves(fn: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `fn` applied to what is not a dict, list, tuple or named tuple; order is kept."""
    kind = type(tree)
    if kind is dict:
        return {key: map_leaves(fn, value) for key, value in tree.items()}
    if kind in (list, tuple):
        return kind(map_leaves(fn, value) for value in tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*(map_leaves(fn, value) for value in tree))
    return fn(tree)


def check_travels(leaf: Any, what: str) -> None:
    """Raise UsageError for objects of phe, also in an array of objects.

    Their pickle skips their obfuscation: a ciphertext times a plain number leaves as it is, and the
    number can be found from it.
    """
    boxed = getattr(getattr(leaf, "dtype", None), "hasobject", False)
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
        out = fn(*args, **kwargs)
        map_leaves(lambda leaf: check_travels(leaf, f"result of {what}"), out)
        if call.results is None:
            return (out,)
        return _split(out, count, what)
    except BaseException as error:  # sys.exit() would end the thread for good
        return (caught(party, what, error),) * count


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
