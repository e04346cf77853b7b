"""Static arguments: bound before tracing, by position or by name, as jax.jit does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from spuvm.errors import UsageError

Bound = tuple[tuple[tuple[int, Any], ...], tuple[tuple[str, Any], ...]]


class Statics:
    """Which arguments of a function are static: known at trace time and never shared."""

    def __init__(
        self,
        fn: Callable[..., Any],
        argnums: int | Sequence[int],
        argnames: str | Sequence[str],
    ) -> None:
        nums = _checked("static_argnums", argnums, int)
        names = _checked("static_argnames", argnames, str)
        positions, more = _positions(fn)
        for name in names - set(positions) if positions is not None else ():
            raise UsageError(
                "static_argnames names no argument of the function",
                got=repr(name),
                expected=f"one of {', '.join(positions or ())}",
            )
        count = len(positions or ())
        for index in nums if positions is not None and not more else ():
            if not -count <= index < count:
                raise UsageError(
                    "static_argnums names no argument of the function",
                    got=str(index),
                    expected=f"less than {count}",
                )
        for index, name in enumerate(positions or ()):
            if index in nums or name in names:
                nums.add(index)
                names.add(name)
        self.nums, self.names = frozenset(nums), frozenset(names)

    def split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Bound]:
        """The other arguments, and the static ones in a form that can be a key."""
        count = len(args)
        nums = {n % count if n < 0 and count else n for n in self.nums}
        fixed = tuple((i, x) for i, x in enumerate(args) if i in nums)
        named = tuple(sorted((k, v) for k, v in kwargs.items() if k in self.names))
        for place, value in (*fixed, *named):
            if not isinstance(value, Hashable):
                raise UsageError(
                    "a static argument must be hashable",
                    got=f"{type(value).__name__} for argument {place!r}",
                    next="pass a tuple instead of a list, or do not make it static",
                )
        rest = tuple(x for i, x in enumerate(args) if i not in nums)
        return rest, {k: v for k, v in kwargs.items() if k not in self.names}, (fixed, named)


def _checked(name: str, given: Any, kind: type) -> set[Any]:
    """One or several numbers or names, as a set."""
    found = (given,) if isinstance(given, kind) else given
    if isinstance(found, str) or not isinstance(found, Iterable):
        found = (None,)
    found = set(found)
    if not all(isinstance(one, kind) and not isinstance(one, bool) for one in found):
        raise UsageError(
            f"unusable {name}",
            got=repr(given),
            expected="names of arguments" if kind is str else "places of arguments",
        )
    return found


def exactly(value: Any) -> Hashable:
    """A key for a static or public value: equal only for the same types and the same sign of 0.

    1, 1.0 and True are equal in Python, and so are 0.0 and -0.0, but programs made of them differ.
    """
    if type(value) in (float, complex):
        return type(value), repr(value)
    if isinstance(value, tuple):
        return type(value), tuple(map(exactly, value))
    return type(value), value


def traced_places(args: Sequence[Any], kwargs: Iterable[str], bound: Bound) -> list[str]:
    """Names of the arguments that are not static, as they are in the call: args[0], kwargs['b']."""
    fixed = {index for index, _ in bound[0]}
    places = [f"args[{i}]" for i in range(len(args)) if i not in fixed]
    return places + [f"kwargs[{name!r}]" for name in sorted(kwargs)]


def rebind(fn: Callable[..., Any], bound: Bound) -> Callable[..., Any]:
    """`fn` as a function of its arguments that are not static."""
    fixed, named = bound
    if not fixed and not named:
        return fn

    def call(*args: Any, **kwargs: Any) -> Any:
        full = list(args)
        for index, value in fixed:
            full.insert(index, value)
        return fn(*full, **kwargs, **dict(named))

    return call


def _positions(fn: Callable[..., Any]) -> tuple[tuple[str, ...] | None, bool]:
    """Names of arguments, None where any will do; whether there may be more positional ones."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None, True
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None, more
    return tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL), more
