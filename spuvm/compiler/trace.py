"""From a Python function and a description of its arguments to a closed jaxpr of its secrets."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from spuvm.compiler.config import SecretSpec
from spuvm.errors import CompileError, SpuvmError, UsageError

_PACKAGE = Path(__file__).parent.parent
for _part in ("compiler", "devices"):  # lines of these are never the user's
    source_info_util.register_exclusion(str(_PACKAGE / _part))


@dataclass(frozen=True)
class Traced:
    """A closed jaxpr whose inputs are the secret leaves, in order, and the tree of its results.

    asked_at: the line that asked for it, for equations that come from no line of the user's, as
    those of a JAX function that is passed as it is.
    """

    closed: Any
    secrets: tuple[SecretSpec, ...]
    out_tree: Any
    out_names: tuple[str, ...]
    public_arguments: tuple[str, ...]
    asked_at: str


def trace(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Traced:
    """Trace `fn` with SecretSpec leaves as unknowns and every other leaf as a constant.

    Raises:
        UsageError: a 64-bit argument while JAX would cut it to 32 bits.
        CompileError: the function itself fails while it is traced.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path((tuple(args), dict(kwargs)))
    secrets = []
    constants: list[Any] = []
    names = []
    for path, leaf in leaves:
        name = _name(path)
        _refuse_cut(name, getattr(leaf, "dtype", None))
        if isinstance(leaf, SecretSpec):
            secrets.append(leaf)
            constants.append(None)
        else:
            names.append(name)
            constants.append(jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf)
    results: list[Any] = []

    def flat(*unknown: Any) -> list[Any]:
        fresh = iter(unknown)
        values = [
            next(fresh) if isinstance(leaf, SecretSpec) else constant
            for (_, leaf), constant in zip(leaves, constants, strict=True)
        ]
        got_args, got_kwargs = jax.tree_util.tree_unflatten(tree, values)
        paths, out_tree = jax.tree_util.tree_flatten_with_path(fn(*got_args, **got_kwargs))
        results.append((out_tree, tuple("out" + jax.tree_util.keystr(p) for p, _ in paths)))
        for path, value in paths:
            _check_result(value, "out" + jax.tree_util.keystr(path))
        return [value for _, value in paths]

    shapes = [jax.ShapeDtypeStruct(s.shape, np.dtype(s.dtype)) for s in secrets]
    try:
        closed = jax.make_jaxpr(flat)(*shapes)
    except SpuvmError:
        raise
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError, IndexError) as error:
        instead = _instead(error)
        if instead is None:
            raise
        raise CompileError(
            "a secret mask as an index would decide the shape of the result"
            if isinstance(error, jax.errors.NonConcreteBooleanIndexError)
            else "the function needs the value of a secret while it is traced",
            got=_said(error),
            next=instead,
        ) from error
    out_tree, out_names = results[-1]
    return Traced(closed, tuple(secrets), out_tree, out_names, tuple(names), _asked_at())


def _instead(error: Exception) -> str | None:
    """What to write where JAX asks for the value of a secret; None where it asks for none."""
    errors, text = jax.errors, str(error)
    if isinstance(error, errors.NonConcreteBooleanIndexError):
        return "use jnp.where(mask, x, other), x.sum(where=mask), or jnp.nonzero(mask, size=n)"
    if isinstance(error, errors.TracerArrayConversionError):
        return (
            "use jax.numpy and jax.scipy in the place of numpy, scipy and what is built on them; "
            "a table of numpy's that a secret indexes is jnp.asarray(table)[i]"
        )
    if isinstance(error, errors.TracerIntegerConversionError):
        return (
            "a secret indexes arrays: jnp.asarray(table)[i] in the place of a list; how often a "
            "loop runs and what decides shapes is public: pass it as a static argument"
        )
    if isinstance(error, errors.ConcretizationTypeError) and re.search(
        r"\b(size|num|length)", text
    ):
        return (
            "say how large the result is at most: jnp.unique(x, size=n), jnp.nonzero(x, size=n), "
            "jnp.bincount(x, length=n), jnp.repeat(x, k, total_repeat_length=n), "
            "segment_sum(x, i, num_segments=n); or keep the shape and choose with jnp.where"
        )
    if isinstance(error, errors.ConcretizationTypeError):
        return (
            "use jnp.where or lax.select instead of Python's if, while, int() and bool(); "
            "pass what decides shapes as a static argument"
        )
    # The third is how JAX 0.12 says the second.
    static = ("Shapes must be 1D", "Slice entries must be static", "Array slice indices must have")
    if text.startswith(static):
        return (
            "pass what decides shapes as a static argument; a piece of a public length at a secret "
            "place is lax.dynamic_slice(x, (i,), (length,))"
        )
    return None


def _said(error: Exception) -> str:
    """What JAX says of the place, without what it says of all places."""
    lines = str(error).split("\n")
    own = (
        []
        if len(lines) < 2 or lines[1].startswith(("The error occurred", "If using"))
        else lines[1:2]
    )
    return "; ".join([lines[0].removesuffix("."), *own])


def _check_result(value: Any, place: str) -> None:
    key = isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    if key or not isinstance(value, jax.Array | np.ndarray | np.generic | complex | float | int):
        raise CompileError(
            "the function returns what is no array",
            got=f"{'a key of jax.random' if key else type(value).__name__} as {place}",
            expected="arrays and numbers, in tuples, lists, dicts and other pytrees",
        )


def _asked_at() -> str:
    """``script.py:12 in main``: the innermost line on the stack that is not of this package."""
    frame = sys._getframe(1)
    while Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    code = frame.f_code
    inside = "" if code.co_name == "<module>" else f" in {code.co_qualname}"
    return f"{Path(code.co_filename).name}:{frame.f_lineno}{inside}"


def _name(path: Sequence[Any]) -> str:
    part, *rest = path
    head = "args" if part.idx == 0 else "kwargs"
    return head + jax.tree_util.keystr(tuple(rest))


def _refuse_cut(name: str, dtype: Any) -> None:
    if dtype is None or jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    try:
        wide = np.dtype(dtype)
    except TypeError:  # a PRNG key
        return
    if wide.kind in "iufc" and wide.itemsize == 8 and wide.kind != "c":
        raise UsageError(
            f"{name}: JAX would cut {wide} to 32 bits",
            expected="dtypes of at most 32 bits while jax_enable_x64 is off",
            next=f'convert with .astype("{wide.kind}4"), or '
            'jax.config.update("jax_enable_x64", True)',
        )
