"""Public values that differ from one iteration of a loop to the next, such as its counter.

The compiler knows all of them: public work in a body is done by JAX itself for all iterations at
once. Where a secret operation needs such a value, the body computes it from the numbers of the
iterations if it is linear or periodic in them, which counters, offsets and flags are, and takes it
out of a table if not. So a program does not grow with the number of iterations unless its public
data does, and `jax.random` keeps JAX's own values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from spuvm.compiler.context import Lowering
from spuvm.errors import CompileError

Array = npt.NDArray[Any]
MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Varying:
    """A public value inside of `loops` nested loops.

    `table` has a leading axis per loop, outermost first: of its number of iterations, or of size 1
    where the value does not depend on them.
    """

    table: Any
    loops: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value in one iteration."""
        return tuple(self.table.shape[self.loops :])

    @property
    def dtype(self) -> Any:
        """Its JAX dtype."""
        return self.table.dtype

    def with_(self, table: Any) -> Varying:
        """The same loops, another table."""
        return Varying(table, self.loops)

    def flat(self, trips: Sequence[int]) -> Any:
        """The table with one leading axis of all combinations of iterations `trips`."""
        shape = (*trips, *self.shape)
        spread = self.table if self.table.shape == shape else _broadcast(self.table, shape)
        return spread.reshape((math.prod(trips), *self.shape))

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise CompileError(
            "a public value differs between the iterations of a loop, but must be one constant here"
        )


def _broadcast(table: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(table, np.ndarray):
        return np.broadcast_to(table, shape)
    return jnp.broadcast_to(table, shape)


def numpy_or_key(value: Any) -> Any:
    """A result of JAX as a numpy array; keys stay what they are."""
    return value if jnp.issubdtype(value.dtype, jax.dtypes.extended) else np.asarray(value)


def common(values: Sequence[Any]) -> tuple[int, ...]:
    """Iterations over which any of the Varying among `values` differs."""
    tables = [v.table.shape[: v.loops] for v in values if isinstance(v, Varying)]
    return tuple(np.broadcast_shapes(*tables))


def settled(table: Any, loops: int) -> Any:
    """A Varying, or a plain array if the table says the same for all iterations."""
    if not isinstance(table, np.ndarray):
        return Varying(table, loops)
    for axis in range(loops):
        first = table[(slice(None),) * axis + (slice(0, 1),)]
        if table.shape[axis] > 1 and (table == first).all():
            table = first
    if math.prod(table.shape[:loops]) == 1:
        return table.reshape(table.shape[loops:])
    return Varying(table, loops)


def inner(value: Any, loops: int) -> Any:
    """A public value of an outer body seen from a body one loop further in (`loops` in all)."""
    if not isinstance(value, Varying):
        return value
    shape = value.table.shape
    return Varying(value.table.reshape((*shape[: loops - 1], 1, *shape[loops - 1 :])), loops)


def check_size(trips: Sequence[int], size: int, itemsize: int = 8) -> None:
    """Refuse tables that would not fit into memory."""
    nbytes = math.prod(trips) * size * itemsize
    if nbytes > MOST_BYTES:
        raise CompileError(
            "public values that differ in every iteration of a loop are too many to keep",
            got=f"{nbytes >> 20} MiB for {math.prod(trips)} iterations",
            expected=f"at most {MOST_BYTES >> 20} MiB",
            next="pass them as an argument that is secret, or make them smaller",
        )


_NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def evaluate(name: str, function: Any, operands: Sequence[Any], outs: Sequence[Any]) -> list[Any]:
    """A public equation for all iterations at once; `outs` are the avals of its results.

    Integers take numpy's way, which is JAX's for them and needs nothing compiled.
    """
    trips = common(operands)
    loops = len(trips)
    for aval in outs:
        check_size(trips, math.prod(aval.shape))
    if name in _NUMPY and all(_integers(x) for x in operands):
        sides = [_side(x, len(outs[0].shape)) for x in operands]
        with np.errstate(over="ignore"):
            made = np.asarray(_NUMPY[name](*sides)).astype(outs[0].dtype)
        return [settled(made, loops)]
    if name in ("reshape", "squeeze", "expand_dims"):
        table = operands[0].table
        return [Varying(table.reshape((*table.shape[:loops], *outs[0].shape)), loops)]
    alike = len({_shape(x) for x in operands}) == 1  # else a scalar chooses between arrays
    if name == "select_n" and len(operands) == 3 and alike and all(map(_integers, operands)):
        which, no, yes = (_side(x, len(outs[0].shape)) for x in operands)
        return [settled(np.where(which, yes, no), loops)]
    if name == "convert_element_type" and outs[0].dtype.kind in "iub" and _integers(operands[0]):
        return [settled(operands[0].table.astype(outs[0].dtype), loops)]
    values = [x.flat(trips) if isinstance(x, Varying) else x for x in operands]
    axes = [0 if isinstance(x, Varying) else None for x in operands]
    with jax.ensure_compile_time_eval():
        results = jax.vmap(function, in_axes=axes)(*values)
    return [
        settled(_unflattened(numpy_or_key(r), trips), loops) if r is not None else None
        for r in results
    ]


def _unflattened(table: Any, trips: tuple[int, ...]) -> Any:
    return table.reshape((*trips, *table.shape[1:]))


def _shape(x: Any) -> tuple[int, ...]:
    return x.shape if isinstance(x, Varying) else np.shape(x)


def _side(x: Any, rank: int) -> Array:
    """An operand that numpy broadcasts as JAX does: a scalar gets the axes of the result."""
    if not isinstance(x, Varying):
        return np.asarray(x)
    table = np.asarray(x.table)
    return table if x.shape else table.reshape((*table.shape, *(1,) * rank))


def _integers(x: Any) -> bool:
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    return isinstance(dtype, np.dtype) and dtype.kind in "iub"


# --- in the program --------------------------------------------------------------------------


def place(low: Lowering, value: Varying, frac: int = 0, width: int = 0) -> int:
    """Id of a table of ring elements (or of bits, width 1) at the present iteration."""
    table = np.asanyarray(value.table)
    if low.bits == 128 and not width:
        table = low.ring.signed(table)  # Python integers: constants take them too
    trips = table.shape[: value.loops]
    shape = value.shape
    check_size(trips, math.prod(shape))
    axes = [i for i, n in enumerate(trips) if n > 1]
    if not axes:
        return low.constant(_stored(low, table.reshape(shape), width), frac, width)
    if not width:
        made = _linear(low, table, axes, shape, frac)
        if made is not None:
            return made
    if len(axes) == 1:
        period = _period(table.reshape((trips[axes[0]], -1)))
        if period is not None:
            head = table[(slice(None),) * axes[0] + (slice(0, period),)]
            number = low.emit("rem_p", low.numbers[axes[0]], modulus=period)
            made = None if width else _linear(low, head, axes, shape, frac, {axes[0]: number})
            if made is not None:
                return made
            return _row(low, head.reshape((period, *shape)), number, frac, width)
    number = _combined(low, trips, axes)
    return _row(low, table.reshape((math.prod(trips), *shape)), number, frac, width)


def _linear(
    low: Lowering,
    table: Array,
    axes: Sequence[int],
    shape: tuple[int, ...],
    frac: int,
    numbers: dict[int, int] | None = None,
) -> int | None:
    """first + sum of step * number of iteration, if the table is that."""
    loops = table.ndim - len(shape)
    table = table.reshape((*table.shape, 1))  # no numpy scalars, which warn when they wrap
    zero = (0,) * loops
    first = table[zero]
    want = np.broadcast_to(first, table.shape)
    steps = []
    for axis in axes:
        step = table[(*zero[:axis], 1, *zero[axis + 1 :])] - first
        counts = np.arange(table.shape[axis]).astype(table.dtype)
        counts = counts.reshape([-1 if i == axis else 1 for i in range(table.ndim)])
        want = want + counts * step
        steps.append((axis, step))
    if not table.size or not np.array_equal(want, table):
        return None
    first, steps = first[..., 0], [(axis, step[..., 0]) for axis, step in steps]
    made: int | None = None
    if first.any() or not any(np.any(step) for _, step in steps):
        made = low.constant(low.ring.array(first), frac)
    for axis, step in steps:
        if not np.any(step):
            continue
        small = step  # an array, also of Python integers
        if step.ndim and (step == step.ravel()[0]).all():
            small = step.ravel()[:1].reshape(())
        number = (numbers or {}).get(axis, low.numbers[axis])
        moved = number
        if small.ndim or int(small) != 1 or frac:
            moved = low.emit("mul_pp", number, low.constant(low.ring.array(small), frac))
        made = moved if made is None else low.emit("add_pp", made, moved)
    assert made is not None
    made = low.spread(made, shape)
    exact, found = low.ring.signed_ends(low.ring.array(table)), low.type(made).bounds
    if found is None or found[0] < exact[0] or found[1] > exact[1]:  # elements are not independent
        made = low.emit("clip_p", made, range=exact)
    return made


def _period(rows: Array) -> int | None:
    """The least period of the rows that is at most half as long as they are."""
    same = (rows == rows[0]).all(axis=1)
    for n in np.flatnonzero(same[1 : len(rows) // 2 + 1])[:8] + 1:
        if np.array_equal(rows[n:], rows[:-n]):
            return int(n)
    return None


def _combined(low: Lowering, trips: Sequence[int], axes: Sequence[int]) -> int:
    """The place of the present iteration among all combinations."""
    made: int | None = None
    for axis in axes:
        stride = math.prod(trips[axis + 1 :])
        number = low.numbers[axis]
        if stride > 1:
            number = low.emit("mul_pp", number, low.constant(low.ring.array(stride)))
        made = number if made is None else low.emit("add_pp", made, number)
    assert made is not None
    return made


def _stored(low: Lowering, table: Array, width: int) -> Array:
    return table if width else low.ring.array(table)


def _row(low: Lowering, rows: Array, number: int, frac: int, width: int) -> int:
    table = low.builder.constant(_stored(low, rows, width), frac, width, low.source)
    row = low.emit("window", table, low.reshape(number, (1,)), sizes=(1,))
    return low.reshape(row, rows.shape[1:])
