"""PLAINTEXT: every line where clear data meets shares.

    from \\ to    PYU                         SPU                          driver
    PYU          Backend.move, in clear      Dealer, at the owner         reveal, in clear
    SPU          Joiner, at the receiver     pass_on: shares of shares    Joiner, at the driver
    driver       sf.to, in clear             refused: give it to a PYU    -

Ciphertexts (HEU): heumoves.py. Masked ring elements cross here too, as RingDealer and RingJoiner.

The owner's process encodes and deals; the receiver's process reconstructs and decodes. Values given
to an SPU call directly by the driver are public constants of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import numpy.typing as npt

from spuvm.devices.failure import Failure
from spuvm.devices.host import OpenOrder, Part
from spuvm.devices.structure import ArraySpec, Shared, check_keys
from spuvm.errors import SpuvmError, UsageError, ValueRangeError
from spuvm.fxp import Fxp
from spuvm.masked import refuse_masked
from spuvm.protocol.aby3.io import Dealt, deal, reconstruct
from spuvm.protocol.aby3.packing import unpack_bits
from spuvm.ring import Ring

Widest = Literal[32, 64]
Pieces = tuple[list[Dealt], list[Dealt], list[Dealt]]


@dataclass(frozen=True, slots=True)
class Dealer:
    """Runs at a value's owner: checks, encodes and deals every array of a pytree.

    rank     of the owner among the three parties, None when it is not one of them.
    widest   64 when JAX's 64-bit types are on where the program is traced.
    at       the script's line, for errors.
    """

    what: str
    fxp: Fxp
    input_range: tuple[float, float] | None
    rank: int | None
    widest: Widest
    at: str = ""

    def __call__(self, value: Any) -> tuple[Any, Pieces]:
        """The public structure of `value`, and the pieces for each of the three machines.

        Raises:
            ValueRangeError: NaN, infinity, out of range, or a dtype that cannot be shared; the text
                names the array and shows no value.
        """
        try:
            return self._deal(value)
        except SpuvmError as error:
            raise error.placed(self.at) from error.__cause__

    def _deal(self, value: Any) -> tuple[Any, Pieces]:
        check_keys(value, self.what)
        paths, treedef = jax.tree_util.tree_flatten_with_path(value)
        specs: list[ArraySpec] = []
        pieces: Pieces = ([], [], [])
        for path, leaf in paths:
            name = self.what + jax.tree_util.keystr(path)
            array, spec = as_array(leaf, name, self.widest)
            encoded = self.fxp.encoding(array, name=name, input_range=self.input_range)
            width = 1 if spec.dtype == "bool" else 0
            for mine, one in zip(
                pieces, deal(encoded, self.fxp.ring, width=width, owner=self.rank), strict=True
            ):
                mine.append(one)
            specs.append(spec)
        return jax.tree.unflatten(treedef, specs), pieces


@dataclass(frozen=True, slots=True)
class Describer:
    """Runs at a value's owner: its public structure, if it could be shared."""

    what: str
    widest: Widest

    def __call__(self, value: Any) -> Any:
        """The tree of `value` with ArraySpecs for leaves."""
        return specs_of(self.what, value, self.widest)


@dataclass(frozen=True, slots=True)
class Joiner:
    """Runs at the receiver: reconstructs and decodes a pytree of numpy arrays."""

    fxp: Fxp
    leaves: tuple[Shared, ...]
    tree: Any

    def __call__(self, *parts: list[Part]) -> Any:
        """The value from the lists of additive parts of the three machines."""
        arrays = [
            self._join(leaf, [machine[i] for machine in parts])
            for i, leaf in enumerate(self.leaves)
        ]
        treedef = jax.tree.structure(self.tree, is_leaf=lambda x: isinstance(x, ArraySpec))
        return jax.tree.unflatten(treedef, arrays)

    def _join(self, leaf: Shared, parts: Sequence[Part]) -> npt.NDArray[Any]:
        total = reconstruct(parts, leaf.width)
        if leaf.width == 1:
            total = unpack_bits(total, leaf.size)
        values = self.fxp.decode(total, leaf.spec.dtype, leaf.frac, leaf.divisor)
        return values.reshape(leaf.spec.shape)


@dataclass(frozen=True, slots=True)
class RingDealer:
    """Runs at an owner of ring elements [count, ...]: deals each of `count` arrays."""

    ring: Ring
    rank: int | None

    def __call__(self, value: npt.NDArray[Any]) -> tuple[Any, Pieces]:
        """The specs, and the pieces for each of the three machines."""
        pieces: Pieces = ([], [], [])
        for array in value:
            for mine, one in zip(pieces, deal(array, self.ring, owner=self.rank), strict=True):
                mine.append(one)
        return [ArraySpec(array.shape, "float32") for array in value], pieces


@dataclass(frozen=True, slots=True)
class RingJoiner:
    """Runs at the receiver of masked values: the ring elements as they are, [count, *shape]."""

    shape: tuple[int, ...]

    def __call__(self, *parts: list[Part]) -> npt.NDArray[Any]:
        arrays = [reconstruct(list(one)).reshape(self.shape) for one in zip(*parts, strict=True)]
        return np.stack(arrays)


def deal_parts(parts: Sequence[Part], order: OpenOrder, ring: Ring) -> Pieces:
    """Shares of additive parts, for the machines of another SPU; no clear value is involved."""
    pieces: Pieces = ([], [], [])
    for part, width, shape in zip(parts, order.widths, order.shapes, strict=True):
        assert part is not None, "parts for an outsider exist at every party"
        size = int(np.prod(shape, dtype=np.int64))
        flat = unpack_bits(part, size) if width == 1 else part
        for mine, one in zip(pieces, deal(flat.reshape(shape), ring, width=width), strict=True):
            mine.append(one)
    return pieces


def shared_by_owner(
    spec: ArraySpec, fxp: Fxp, input_range: tuple[float, float] | None, origins: tuple[str, ...]
) -> Shared:
    """How an array that a Dealer dealt is to be read; origins: whose data it depends on."""
    if spec.dtype == "bool":
        return Shared(spec, 0, 1, origins)
    lo, hi = input_range or (None, None)
    is_int = np.dtype(spec.dtype).kind in "iu"
    return Shared(spec, 0 if is_int else fxp.frac_bits, 0, origins, lo, hi)


def as_array(leaf: Any, name: str, widest: Widest) -> tuple[npt.NDArray[Any], ArraySpec]:
    """A leaf as numpy array with all its digits, and the JAX dtype that it computes with.

    float64 data keeps its precision until it is encoded; where JAX's 64-bit types are off it
    computes as float32. 64-bit integers are refused there: they would be cut.
    """
    if isinstance(leaf, Failure):
        leaf.throw()
    refuse_masked(leaf, name)
    if type(leaf) is int:
        leaf = _python_int(leaf, name, widest)
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: not an array", got=type(leaf).__name__) from error
    if array.dtype.hasobject and array.ndim == 0:
        raise UsageError(
            f"{name}: cannot share values of dtype object",
            got=type(leaf).__name__,
            expected="arrays and numbers, in tuples, lists, dicts and other pytrees",
            next="convert it at its owner first; a class of your own is a pytree where its owner "
            "registers it with JAX too",
        )
    dtype = canonical(array.dtype, name, widest)
    return array, ArraySpec(array.shape, dtype)


def specs_of(name: str, value: Any, widest: Widest) -> Any:
    """The tree of a value, arrays and jax.ShapeDtypeStructs, with ArraySpecs for leaves."""
    check_keys(value, name)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: spec_of(leaf, name + jax.tree_util.keystr(path), widest), value
    )


def spec_of(leaf: Any, name: str, widest: Widest) -> ArraySpec:
    """The spec of an array, of a scalar, or of a jax.ShapeDtypeStruct."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return ArraySpec(tuple(leaf.shape), canonical(leaf.dtype, name, widest))
    return as_array(leaf, name, widest)[1]


def public_value(leaf: Any, widest: Widest) -> Any:
    """A public argument as JAX takes it: 64-bit numpy data becomes 32-bit where nothing is lost.

    float64 loses digits that float32 does not have, as everywhere in JAX; what does not fit at all
    stays as it is and is refused by the compiler.
    """
    if widest == 64 or not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype.itemsize < 8:
        return leaf
    if leaf.dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = leaf.astype(np.float32)
        return rounded if np.array_equal(np.isinf(rounded), np.isinf(leaf)) else leaf
    if leaf.dtype.kind in "iu":
        narrow = leaf.astype(f"{leaf.dtype.kind}4")
        return narrow if np.array_equal(narrow, leaf) else leaf
    return leaf


def canonical(dtype: np.dtype[Any], name: str, widest: Widest) -> str:
    """Name of the JAX dtype that data of a numpy dtype computes with.

    Raises:
        UsageError: data that cannot be shared, or 64-bit integers while JAX's 64-bit types are off.
    """
    if dtype.kind not in "biuf" and dtype.name not in ("bfloat16", "float16"):
        raise UsageError(
            f"{name}: cannot share values of dtype {dtype}",
            expected="bool, an integer type or a float type",
            next="share real and imaginary part; lax.complex(re, im) inside joins them"
            if dtype.kind == "c"
            else "convert it at its owner first",
        )
    if dtype.kind == "f" and dtype.itemsize > 4 and widest == 32:
        return "float32"
    if dtype.kind == "f" and dtype.itemsize > 8:
        return "float64"
    if dtype.kind in "iu" and dtype.itemsize * 8 > widest:
        raise UsageError(
            f"{name}: {dtype} data while JAX's 64-bit types are off",
            got=str(dtype),
            expected=f"{dtype.kind}nt{widest} or narrower".replace("unt", "uint"),
            next="convert it at its owner (x.astype(numpy.int32)), "
            'or jax.config.update("jax_enable_x64", True)',
        )
    return dtype.name


def _python_int(value: int, name: str, widest: Widest) -> npt.NDArray[Any]:
    if not -(1 << (widest - 1)) <= value < 1 << (widest - 1):
        raise ValueRangeError(
            f"{name}: an integer does not fit",
            expected=f"|x| < 2^{widest - 1}",
            next='jax.config.update("jax_enable_x64", True) gives 64 bits',
        )
    return np.asarray(value, f"int{widest}")


def widest_type() -> Widest:
    """64 when JAX's 64-bit types are on here, else 32."""
    return 64 if jax.config.read("jax_enable_x64") else 32
