"""One participant of a masked sum: keys with every other one, and masks that cancel.

y_i = x_i + sum over j > i of s_ij - sum over j < i of s_ij  modulo 2^64, where s_ij is a stream
that only i and j know. Each number of a round is masked by all pairs, so a y_i alone is uniform as
long as one other participant keeps its keys to itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

import jax
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from spuvm.errors import UsageError, ValueRangeError
from spuvm.masked import refuse_masked
from spuvm.protocol.aby3.keystream import FIRST, Stream

Words = npt.NDArray[np.uint64]
_ROOM = 62  # |sum| stays below 2^62


Masked = dict[str, Any]
# A masked summand as it travels: uniform words, and what is public about them.
#   words         all leaves' elements and, last, the weight.
#   tree          the tree with an int64 array per leaf: whether it holds integers, size, shape.
#   frac          fraction bits of floats and of the weight.
#   weighted, whole_leaves (axis=None), participants


class Masker:
    """A participant: its key pair, the keys it shares with the others, and rounds used."""

    def __init__(self, party: str, names: Sequence[str], frac_bits: int) -> None:
        self._party, self._names, self._frac = party, sorted(names), frac_bits
        self._private = X25519PrivateKey.generate()
        self._streams: Mapping[str, Stream] = {}
        self._last = 0

    def public_key(self) -> dict[str, Any]:
        """This participant's public key."""
        raw = self._private.public_key().public_bytes_raw()
        return {"party": self._party, "key": np.frombuffer(raw, np.uint8)}

    def agree(self, announced: Sequence[Mapping[str, Any]]) -> None:
        """Take the public keys of all participants; once."""
        if self._streams:
            raise UsageError("keys of a secure aggregation are agreed once")
        keys = {one["party"]: one["key"].tobytes() for one in announced}
        if sorted(keys) != self._names:
            raise UsageError("keys of other participants than expected", got=", ".join(keys))
        self._streams = {
            name: Stream(self._shared(name, key))
            for name, key in keys.items()
            if name != self._party
        }

    def mask(
        self, number: int, value: Any, weight: Any, weighted: bool, axis: int | None
    ) -> Masked:
        """This participant's summand of round `number`, which grows from call to call."""
        if number <= self._last:
            raise UsageError("a round of masks is never used twice", got=str(number))
        self._last = number
        leaves, treedef = jax.tree.flatten(value)
        for leaf in leaves:
            refuse_masked(leaf, "a summand")
        arrays = [np.asarray(leaf) for leaf in leaves]
        integers = [x.dtype.kind in "biu" and not weighted for x in arrays]
        flat = [self._encode(x, float(weight) if weighted else None, axis) for x in arrays]
        mass = self._fixed(np.array([float(weight)]))
        words = np.concatenate([*flat, mass]) if flat else mass
        for name, stream in self._streams.items():
            noise = np.empty_like(words)
            stream.begin((number << 64) + FIRST, noise.nbytes)
            stream.fill(memoryview(noise).cast("B"), (number << 64) + FIRST)
            words = words + noise if name > self._party else words - noise
        kinds = [
            np.array([whole, x.size, *(x.shape if axis == 0 else ())], np.int64)
            for x, whole in zip(arrays, integers, strict=True)
        ]
        return {
            "words": words,
            "tree": jax.tree.unflatten(treedef, kinds),
            "frac": self._frac,
            "weighted": weighted,
            "whole_leaves": axis is None,
            "participants": len(self._names),
        }

    def _encode(self, x: npt.NDArray[Any], weight: float | None, axis: int | None) -> Words:
        if x.dtype.kind not in "biuf":
            raise UsageError("only numbers are added up", got=str(x.dtype))
        if weight is not None:
            x = x.astype(np.float64) * weight
        if x.dtype.kind in "biu":
            limit = (1 << _ROOM) // (len(self._names) * max(1, x.size if axis is None else 1))
            if ((x > limit) | (x < -limit)).any():  # before a cast, which may wrap
                raise ValueRangeError("integers too large to be added up", expected=f"{limit}")
            flat = x.astype(np.int64).reshape(-1).view(np.uint64)
        else:
            flat = self._fixed(x.astype(np.float64).reshape(-1), x.size if axis is None else 1)
        return flat if axis == 0 else flat.sum(keepdims=True, dtype=np.uint64)

    def _fixed(self, x: npt.NDArray[np.float64], terms: int = 1) -> Words:
        limit = 2.0 ** (_ROOM - self._frac) / (len(self._names) * max(1, terms))
        if not np.isfinite(x).all() or (np.abs(x) >= limit).any():
            raise ValueRangeError(
                "values that cannot be added up",
                expected=f"finite numbers, |x| < {limit:g}",
                next="scale them, or take fewer frac_bits",
            )
        return np.rint(x * 2.0**self._frac).astype(np.int64).view(np.uint64)

    def _shared(self, name: str, key: bytes) -> bytes:
        secret = self._private.exchange(X25519PublicKey.from_public_bytes(key))
        low, high = sorted((self._party, name))
        info = f"spuvm masked sum {low} {high}".encode()
        return HKDF(hashes.SHA256(), length=16, salt=None, info=info).derive(secret)

    def __repr__(self) -> str:
        return f"Masker({self._party}, hidden)"

    def __reduce__(self) -> NoReturn:
        raise UsageError("keys do not leave the process that made them")


def unmasked(parts: Sequence[Masked], kind: Literal["sum", "average"]) -> Any:
    """The sum or weighted average behind the summands of all participants.

    Raises:
        UsageError: a summand is missing, or the trees differ.
    """
    first = parts[0]
    described = {
        repr([p[name] for name in sorted(p) if name != "words"] + [len(p["words"])]) for p in parts
    }
    if len(parts) != first["participants"] or len(described) != 1:
        raise UsageError(
            "the participants' values do not go together",
            got=f"{len(parts)} of {first['participants']}, {len(described)} structures",
            expected="one value per participant, all of one tree, shapes and kinds",
        )
    total = np.add.reduce([part["words"] for part in parts])
    scale = 2.0 ** first["frac"]
    mass = total[-1].view(np.int64) / scale
    if not mass > 0:
        raise ValueRangeError("the weights add up to 0")
    place = 0

    def read(leaf: npt.NDArray[np.int64]) -> Any:
        nonlocal place
        whole, size, *shape = leaf.tolist()
        count = int(np.prod(shape, dtype=np.int64))
        signed = total[place : place + count].view(np.int64).reshape(shape)
        place += count
        value: Any = signed if whole else signed / scale
        if kind == "sum":
            return value
        return value / (mass * (size if first["whole_leaves"] else 1))

    return jax.tree.map(read, first["tree"])
