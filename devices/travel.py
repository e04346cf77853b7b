"""What crosses between parties, in the fixed schema of spuvm.net.wire: values, facts, failures.

Only arrays, scalars, strings and plain containers; no objects and no code. An exception of a user's
function crosses as its type, party and line: its text may hold data and stays where it happened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from spuvm import errors
from spuvm.compiler.complexes import Parts
from spuvm.devices.checkpoints import Loaded
from spuvm.devices.failure import Failure, Told
from spuvm.devices.host import Outcome, Part
from spuvm.devices.structure import ArraySpec
from spuvm.errors import ChannelError, PartyError, SpuvmError, UsageError, ValueRangeError
from spuvm.masked import refuse_masked
from spuvm.net import wire
from spuvm.protocol.aby3.io import Dealt, Form
from spuvm.wide import WIDE, elements

_HALF = np.dtype("<u8")
_ANY_SIZE = wire.Limits(nbytes=1 << 62)
_PLAIN = (bool, int, float, str, bytes)
_SHARED = {dtype.name for dtype in wire.DTYPES if dtype.kind != "c"} | {"bfloat16"}
_ELEMENTS = 1 << 40


def packed(value: Any, what: str) -> Any:
    """A party's value as the schema has it; JAX arrays become numpy arrays.

    Raises:
        UsageError: something that is neither; the text names types only.
    """

    def pack(item: Any) -> Any:
        kind = type(item)
        if item is None or kind in _PLAIN:
            return item
        if kind in (list, tuple):
            return kind(pack(part) for part in item)
        if isinstance(item, dict) and all(isinstance(key, str) for key in item):
            return {key: pack(part) for key, part in item.items()}
        if isinstance(item, np.ndarray | np.generic) or hasattr(item, "__jax_array__"):
            refuse_masked(item, f"what {what} made")
            return item
        if hasattr(item, "addressable_shards"):  # a JAX array
            return np.asarray(item)
        raise UsageError(
            f"what {what} made cannot travel to another party",
            got=f"{kind.__name__}{' with keys that are not str' if kind is dict else ''}",
            expected="arrays, numbers, strings, bytes, None; lists, tuples, dicts of these",
            next="convert it at its owner first",
        )

    tree = pack(value)
    wire.structure_of(tree)  # refuses dtypes that cannot travel
    return tree


def digest(value: Any) -> tuple[str, int]:
    """SHA-256 and number of bytes of an encoded value, for ledgers."""
    encoded = wire.encode(value, _ANY_SIZE)
    found = sha256(encoded.head)
    for part in encoded.body:
        found.update(part)
    return found.hexdigest(), encoded.nbytes


def shape(value: Any) -> str:
    """Types and shapes of a value on one line."""
    return _shape(wire.structure_of(value))[:200]


def _shape(structure: Any) -> str:
    match structure:
        case dict():
            return "{" + ", ".join(f"{k}: {_shape(v)}" for k, v in structure.items()) + "}"
        case list():
            return "[" + ", ".join(map(_shape, structure)) + "]"
        case tuple():
            return "(" + ", ".join(map(_shape, structure)) + ")"
    return str(structure)


# ---- failures


def private(failure: Failure) -> Told:
    """A failure of a user's function without the text of its exception."""
    name = type(failure.error).__name__
    error = PartyError(
        f"{failure.what} raised {name}",
        at=without_folder(failure.at) or None,
        next=f"the full text is in the log of party {failure.party!r}",
    )
    return Told(failure.party, failure.what, error)


def failure_to_wire(failure: Failure) -> Any:
    """A failure whose text may be told to others.

    How many elements were out of range depends on the data: it stays at their owner.
    """
    error = failure.error
    if not isinstance(error, SpuvmError):
        error = PartyError(f"{failure.what} raised {type(error).__name__}", at=failure.at)
    return {
        "party": failure.party,
        "what": failure.what,
        "kind": type(error).__name__,
        "message": error.message,
        "at": without_folder(error.at or failure.at),
        "got": "" if isinstance(error, ValueRangeError) else error.got or "",
        "expected": error.expected or "",
        "next": error.next or "",
    }


def failure_from_wire(said: Any) -> Told:
    """A failure that another party told of."""
    names = ("party", "what", "kind", "message", "at", "got", "expected", "next")
    if not isinstance(said, dict) or set(said) != set(names):
        raise ChannelError("sent something that is not a failure")
    if not all(isinstance(text, str) for text in said.values()):
        raise ChannelError("sent something that is not a failure")
    kind = getattr(errors, said["kind"], PartyError)
    if not (isinstance(kind, type) and issubclass(kind, SpuvmError)):
        kind = PartyError
    more = {name: said[name] or None for name in ("at", "got", "expected", "next")}
    return Told(said["party"], said["what"], kind(said["message"], **more))


def failures_from_wire(said: Any) -> list[Told]:
    """The failures that another party told of."""
    if not isinstance(said, list):
        raise ChannelError("sent something that is not a list of failures")
    return [failure_from_wire(one) for one in said]


def outcome_from_wire(said: Any) -> Any:
    """What another party's machine told of a step, or its failure."""
    return failure_in(said) or public_from_wire(said.get("outcome"))


def head(value: Any) -> dict[str, Any]:
    """What goes before a value: whether there is one."""
    return {"failure": failure_to_wire(value)} if isinstance(value, Failure) else {"failure": None}


def failure_in(said: Any) -> Told | None:
    """The failure in a head, None when a value follows."""
    if not isinstance(said, dict) or "failure" not in said:
        raise ChannelError("sent something that is not the head of a value")
    return None if said["failure"] is None else failure_from_wire(said["failure"])


def without_folder(at: str) -> str:
    """A source line without the folder of its file."""
    folder, _, name = at.rpartition(os.sep)
    return name if folder else at


# ---- public structures


def tree_to_wire(tree: Any) -> Any:
    """A tree of ArraySpecs, or other public facts: numbers and texts.

    Raises:
        UsageError: a container other than dict with str keys, list, tuple and None.
    """
    kind = type(tree)
    if kind in _PLAIN:
        return {"fact": tree}
    if kind is ArraySpec:
        return {"array": list(tree.shape), "dtype": tree.dtype}
    if tree is None:
        return {"none": 0}
    if kind in (list, tuple):
        return {kind.__name__: [tree_to_wire(part) for part in tree]}
    if kind is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: tree_to_wire(part) for key, part in tree.items()}}
    raise UsageError(
        "a value with containers of other kinds cannot be saved or shared between parties",
        got="complex arrays" if kind is Parts else kind.__name__,
        expected="dicts with str keys, lists and tuples of arrays",
        next="take x.real and x.imag" if kind is Parts else "make these of it first",
    )


def tree_from_wire(said: Any) -> Any:
    """The tree of ArraySpecs that another party told of."""
    match said:
        case {"fact": bool() | int() | float() | str() | bytes() as fact}:
            return fact
        case {"array": list() as shape, "dtype": str() as dtype} if len(said) == 2:
            if dtype in _SHARED and _small(shape):
                return ArraySpec(tuple(shape), dtype)
        case {"none": 0}:
            return None
        case {"list": list() as parts}:
            return [tree_from_wire(part) for part in parts]
        case {"tuple": list() as parts}:
            return tuple(tree_from_wire(part) for part in parts)
        case {"dict": dict() as entries}:
            return {key: tree_from_wire(part) for key, part in entries.items()}
    raise ChannelError("sent something that is not the structure of a value")


def _small(shape: Sequence[Any]) -> bool:
    """Whether numbers are a shape of no more elements than there can be, and of few dimensions."""
    if len(shape) > 32 or not all(type(n) is int and 0 <= n < _ELEMENTS for n in shape):
        return False
    count: int = math.prod(max(n, 1) for n in shape)
    return count < _ELEMENTS


def public_to_wire(found: Any) -> Any:
    """What a step of a machine told about itself: costs, or what it loaded."""
    if isinstance(found, Outcome):
        return {"run": [found.rounds, found.bytes_sent, float(found.seconds)]}
    if isinstance(found, Loaded):
        return {"loaded": [found.checkpoint, found.about, found.before]}
    return {"nothing": []}


def public_from_wire(said: Any) -> Any:
    """What another party's machine told."""
    match said:
        case {"run": [int() as rounds, int() as sent, float() as seconds]}:
            return Outcome(rounds, sent, seconds)
        case {"loaded": [str() as checkpoint, str() as about, str() as before]}:
            return Loaded(checkpoint, about, before)
        case {"nothing": []}:
            return None
    raise ChannelError("sent something that is not an outcome")


# ---- dealt pieces and additive parts: flat arrays, those of 128 bits as pairs of 64


def _plain(array: Any) -> Any:
    return array.view(np.ndarray).view(_HALF) if array.dtype == WIDE else array


def _plain_form(dtype: np.dtype[Any], size: int) -> wire.ArrayOf:
    return wire.ArrayOf(_HALF, (2 * size,)) if dtype == WIDE else wire.ArrayOf(dtype, (size,))


def _ring(array: Any, dtype: np.dtype[Any]) -> Any:
    return elements(array.view(WIDE)) if dtype == WIDE else array


def pieces_to_wire(pieces: Sequence[Dealt]) -> Any:
    """What an owner gives one machine: per array its seeds and its components."""
    return [
        [
            [one.seeds[c] for c in sorted(one.seeds)],
            [_plain(one.arrays[c]) for c in sorted(one.arrays)],
        ]
        for one in pieces
    ]


def pieces_expected(forms: Sequence[Form]) -> Any:
    """The wire structure of pieces of these forms."""
    return [
        [
            [wire.ScalarOf("bytes")] * len(form.seeds),
            [_plain_form(np.dtype(form.dtype), form.size)] * len(form.arrays),
        ]
        for form in forms
    ]


def pieces_from_wire(said: Any, forms: Sequence[Form]) -> list[Dealt]:
    """The pieces for this party; what was said has the expected structure."""
    return [
        form.filled(seeds, [_ring(a, np.dtype(form.dtype)) for a in arrays])
        for (seeds, arrays), form in zip(said, forms, strict=True)
    ]


def parts_to_wire(parts: Sequence[Part]) -> Any:
    """A machine's additive parts of some arrays."""
    return [_plain(part) for part in parts]


def parts_expected(forms: Sequence[tuple[np.dtype[Any], int]]) -> Any:
    """The wire structure of additive parts of these dtypes and sizes."""
    return [_plain_form(dtype, size) for dtype, size in forms]


def parts_from_wire(said: Any, forms: Sequence[tuple[np.dtype[Any], int]]) -> list[Part]:
    """Additive parts that a machine sent; they have the expected structure."""
    return [_ring(part, dtype) for part, (dtype, _) in zip(said, forms, strict=True)]
