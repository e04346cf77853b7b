"""Static arguments: bound before tracing, by position or by name, as jax.jit does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
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
        nums = {argnums} if isinstance(argnums, int) else set(argnums)
        names = {argnames} if isinstance(argnames, str) else set(argnames)
        positions = _positions(fn)
        for name in names - set(positions) if positions is not None else ():
            raise UsageError(
                "static_argnames names no argument of the function",
                got=repr(name),
                expected=f"one of {', '.join(positions or ())}",
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


def _positions(fn: Callable[..., Any]) -> tuple[str, ...] | None:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)
