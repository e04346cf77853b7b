"""Simple equations on public operands, by numpy: JAX takes 20 to 50 ms to compile each.

Only what numpy and JAX agree on to the last bit: moved elements, exact arithmetic of integers, and
what IEEE 754 rounds in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

FLOATS = (np.dtype("float32"), np.dtype("float64"))
Rule = Callable[[Sequence[Any], Mapping[str, Any]], Any]


def by_numpy(eqn: Any, operands: Sequence[Any]) -> Any:
    """The result of an equation, or None where JAX has to compute it."""
    rule = _RULES.get(eqn.primitive.name)
    if rule is None or len(eqn.outvars) != 1:
        return None
    avals = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    if not all(_plain(aval.dtype) for aval in avals):
        return None
    given = [np.asarray(x, atom.aval.dtype) for x, atom in zip(operands, eqn.invars, strict=True)]
    with np.errstate(all="ignore"):
        made = rule(given, eqn.params)
    out = eqn.outvars[0].aval
    return None if made is None else np.asarray(made, out.dtype).reshape(out.shape)


def _plain(dtype: Any) -> bool:
    """Not floats of 16 bits, which JAX computes as wider ones, and not the keys of jax.random."""
    return isinstance(dtype, np.dtype) and (dtype.kind in "biu" or dtype in FLOATS)


def _elementwise(fn: Callable[..., Any]) -> Rule:
    return lambda xs, _: fn(*xs)


def _arithmetic(fn: Callable[..., Any]) -> Rule:
    return lambda xs, _: _flushed(fn(*map(_flushed, xs)))


def _flushed(x: Any) -> Any:
    """Without subnormal numbers, as JAX sets processors."""
    if x.dtype.kind != "f":
        return x
    tiny = np.abs(x) < np.finfo(x.dtype).tiny
    return np.where(tiny, np.copysign(x.dtype.type(0), x), x) if tiny.any() else x


def _divide(xs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    return _arithmetic(np.divide)(xs, params) if xs[0].dtype.kind == "f" else None


def _convert(xs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Not of floats to integers: what does not fit becomes another number."""
    x, new = xs[0], np.dtype(params["new_dtype"])
    if x.dtype.kind == "f" and new.kind in "iu":
        return None
    return _flushed(_flushed(x).astype(new)) if x.dtype != new else x


def _select(xs: Sequence[Any], _: Mapping[str, Any]) -> Any:
    which, *cases = xs
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else None


def _slice(xs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    starts, limits = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(starts)
    return xs[0][tuple(map(slice, starts, limits, steps))]


def _reshape(xs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    return xs[0].reshape(params["new_sizes"]) if params["dimensions"] is None else None


def _iota(_: Sequence[Any], params: Mapping[str, Any]) -> Any:
    shape, dimension = params["shape"], params["dimension"]
    row = np.arange(shape[dimension], dtype=params["dtype"])
    others = [d for d in range(len(shape)) if d != dimension]
    return np.broadcast_to(np.expand_dims(row, others), shape)


_RULES: dict[str, Rule] = {
    "add": _arithmetic(np.add),
    "sub": _arithmetic(np.subtract),
    "mul": _arithmetic(np.multiply),
    "div": _divide,
    "neg": _elementwise(np.negative),
    "abs": _elementwise(np.abs),
    "eq": _arithmetic(np.equal),
    "ne": _arithmetic(np.not_equal),
    "lt": _arithmetic(np.less),
    "le": _arithmetic(np.less_equal),
    "gt": _arithmetic(np.greater),
    "ge": _arithmetic(np.greater_equal),
    "and": _elementwise(np.bitwise_and),
    "or": _elementwise(np.bitwise_or),
    "xor": _elementwise(np.bitwise_xor),
    "not": _elementwise(np.invert),
    "convert_element_type": _convert,
    "select_n": _select,
    "slice": _slice,
    "concatenate": lambda xs, params: np.concatenate(xs, params["dimension"]),
    "squeeze": lambda xs, params: np.squeeze(xs[0], params["dimensions"]),
    "reshape": _reshape,
    "transpose": lambda xs, params: np.transpose(xs[0], params["permutation"]),
    "rev": lambda xs, params: np.flip(xs[0], params["dimensions"]),
    "iota": _iota,
}
