"""Arrays of ciphertexts that compute like numpy's: + - times plaintext, @, slices, sums.

Every array has a public scale and a public bound on its plaintexts' absolute values, which
operations track: a result that might leave the plaintext space is refused before it is computed.
Arrays refuse to be pickled or converted; what leaves a party is Sealed (wire.py), re-randomised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from spuvm.errors import UsageError, ValueRangeError
from spuvm.paillier.encoding import Plain, decode
from spuvm.paillier.keys import PublicKey, SecretKey
from spuvm.paillier.powers import (
    inverses,
    pairwise,
    power,
    powers,
    products,
    scattered_products,
    weighted_products,
)

Objects = npt.NDArray[np.object_]
Index = Any


class Ciphers:
    """Ciphertexts under one key.

    Args:
        key: the public key.
        data: array of objects that holds ciphertexts as gmpy2 integers.
        scale: the plaintext is value * 2^scale.
        bound: |value * 2^scale| is at most this.
        fresh: True when every ciphertext was randomised after the last operation.

    Raises:
        ValueRangeError: the bound is beyond the plaintext space.
    """

    __slots__ = ("bound", "data", "fresh", "key", "scale")

    def __init__(
        self, key: PublicKey, data: Objects, scale: int, bound: int, *, fresh: bool = False
    ) -> None:
        check_bound(key, bound)
        self.key, self.data, self.scale, self.bound, self.fresh = key, data, scale, bound, fresh

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def T(self) -> Ciphers:  # numpy's name
        return self._view(self.data.T)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Index) -> Ciphers:
        """Slices, index arrays and masks as in numpy; one element is an array of shape ()."""
        # An index array may name an element twice: not fresh, or equality would show.
        return self._made(_array(self.data[index]), self.scale, self.bound)

    def reshape(self, *shape: Any) -> Ciphers:
        return self._view(self.data.reshape(*shape))

    def __add__(self, other: Any) -> Ciphers:
        if isinstance(other, Plain):
            left, right = _aligned_plain(self, other)
            added = [self.key.raw(int(v)) for v in right.ints.reshape(-1)]
            other_data = objects(added, right.shape)
            bound = left.bound + right.bound
        else:
            left, other = _aligned(self, self._same_key(other, "+"))
            other_data, bound = other.data, left.bound + other.bound
        a, b = np.broadcast_arrays(left.data, other_data)
        flat = pairwise(list(a.reshape(-1)), list(b.reshape(-1)), self.key.n2)
        return self._made(objects(flat, a.shape), left.scale, bound)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Ciphers:
        return self.__add__(-other if isinstance(other, Ciphers) else _negated(other))

    def __rsub__(self, other: Any) -> Ciphers:
        return (-self).__add__(other)

    def __neg__(self) -> Ciphers:
        flat = inverses(self._flat(), self.key.n2)
        return self._made(objects(flat, self.shape), self.scale, self.bound)

    def __mul__(self, other: Any) -> Ciphers:
        """Elementwise product with a Plain; a public one of one element costs least."""
        plain = self._plain(other, "*")
        scale, bound = self.scale + plain.scale, self.bound * plain.bound
        check_bound(self.key, bound)
        if plain.public and plain.ints.size == 1 and plain.ints.ndim <= self.ndim:
            shape = np.broadcast_shapes(self.shape, plain.shape)
            flat = power(self._flat(), int(plain.ints.reshape(())), self.key.n2)
            return self._made(objects(flat, shape), scale, bound)
        a, w = np.broadcast_arrays(self.data, plain.ints)
        bits = plain.bound.bit_length()
        exponents = [int(v) for v in w.reshape(-1)]
        flat = powers(list(a.reshape(-1)), exponents, bits, self.key.n2)
        return self._made(objects(flat, a.shape), scale, bound)

    __rmul__ = __mul__

    def __matmul__(self, other: Any) -> Ciphers:
        """self [k] or [m, k] @ Plain [k] or [k, n]."""
        plain = self._plain(other, "@")
        rows, columns = np.atleast_2d(self.data), plain.ints
        if plain.ints.ndim == 1:
            columns = columns[:, None]
        if columns.ndim != 2 or rows.ndim != 2 or rows.shape[1] != columns.shape[0]:
            raise UsageError(
                "shapes do not fit a matrix product",
                got=f"{self.shape} @ {plain.shape}",
                expected="[k] or [m, k] @ [k] or [k, n]",
            )
        bound = self.bound * plain.bound * max(1, rows.shape[1])
        scale = self.scale + plain.scale
        check_bound(self.key, bound)
        bits, weights = plain.bound.bit_length(), columns.T.tolist()
        flat = [c for row in rows for c in weighted_products(list(row), weights, bits, self.key.n2)]
        shape = self.shape[:-1] + plain.shape[1:]
        return self._made(objects(flat, shape), scale, bound)

    def __rmatmul__(self, other: Any) -> Ciphers:
        """Plain [k] or [m, k] @ self [k] or [k, n]."""
        plain = self._plain(other, "@")
        if plain.ints.ndim == 1 or self.ndim == 1:
            return self.T @ _turned(plain)
        return (self.T @ _turned(plain)).T

    def sum(self, axis: int | None = None) -> Ciphers:
        """The sum of all elements, or along one axis."""
        moved = self.data.reshape(-1) if axis is None else np.moveaxis(self.data, axis, 0)
        rest = moved.shape[1:]
        columns = moved.reshape(len(moved), math.prod(rest))
        flat = products([list(columns[:, i]) for i in range(columns.shape[1])], self.key.n2)
        return self._made(objects(flat, rest), self.scale, self.bound * max(1, len(moved)))

    def bucket_sums(self, buckets: npt.ArrayLike, count: int) -> Ciphers:
        """Row b of the result is the sum of the rows i with buckets[i] == b; [count, ...].

        Raises:
            UsageError: not one bucket in range(count) per row.
        """
        where = np.asarray(buckets)
        fits = where.ndim == 1 and len(where) == len(self.data) and where.dtype.kind in "iu"
        if not fits or (where.size and (where.min() < 0 or where.max() >= count)):
            raise UsageError(
                "bucket sums need one bucket per row",
                got=f"{where.dtype}{list(where.shape)} for {len(self.data)} rows",
                expected=f"integers from 0 to {count - 1}",
            )
        width = math.prod(self.shape[1:])
        rows = self.data.reshape(len(where), width)
        found = scattered_products(where.tolist(), rows.tolist(), count, width, self.key.n2)
        out = objects(found, (count, *self.shape[1:]))
        return self._made(out, self.scale, self.bound * max(1, len(self.data)))

    def rerandomised(self) -> Ciphers:
        """The same plaintexts in ciphertexts that cannot be linked to these."""
        flat = pairwise(self._flat(), self.key.residues(self.size), self.key.n2)
        data = objects(flat, self.shape)
        return Ciphers(self.key, data, self.scale, self.bound, fresh=True)

    def rescaled(self, scale: int) -> Ciphers:
        """The same values at a larger scale."""
        if scale < self.scale:
            raise UsageError(
                "ciphertexts cannot drop fraction bits", got=f"scale {self.scale} to {scale}"
            )
        factor = 1 << (scale - self.scale)
        check_bound(self.key, self.bound * factor)
        flat = power(self._flat(), factor, self.key.n2)
        return self._made(objects(flat, self.shape), scale, self.bound * factor)

    def _flat(self) -> list[mpz]:
        return list(self.data.reshape(-1))

    def _view(self, data: Objects) -> Ciphers:
        return Ciphers(self.key, data, self.scale, self.bound, fresh=self.fresh)

    def _made(self, data: Objects, scale: int, bound: int) -> Ciphers:
        return Ciphers(self.key, data, scale, bound)

    def _same_key(self, other: Any, operation: str) -> Ciphers:
        if not isinstance(other, Ciphers):
            raise UsageError(
                f"ciphertexts {operation} something that is not encoded",
                got=type(other).__name__,
                expected="ciphertexts under the same key, or encoded plain numbers",
            )
        if other.key != self.key:
            raise UsageError(
                "ciphertexts under different keys", got=f"{self.key!r} {operation} {other.key!r}"
            )
        return other

    def _plain(self, other: Any, operation: str) -> Plain:
        if isinstance(other, Ciphers):
            raise UsageError(
                f"ciphertext {operation} ciphertext is not possible",
                expected="one operand in clear: this encryption is additive",
                next="compute the product on an SPU",
            )
        if not isinstance(other, Plain):
            self._same_key(other, operation)
        plain: Plain = other
        return plain

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "ciphertexts do not leave a party as they are", next="seal them: wire.seal(x)"
        )

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise UsageError(
            "ciphertexts have no value here", got=repr(self), next="decrypt at the key holder"
        )

    __array__ = __bool__ = __int__ = __float__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = (
        _refuse
    )
    __ne__ = __contains__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _refuse
    __array_ufunc__ = None  # numpy arrays leave operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ciphers(shape={self.shape}, scale={self.scale}, {self.key!r})"


def check_bound(key: PublicKey, bound: int) -> None:
    """Raise ValueRangeError when integers of this absolute value leave the plaintext space."""
    if bound > key.max_int:
        raise ValueRangeError(
            "a result may leave the plaintext space of this key",
            got=f"values of up to {bound.bit_length()} bits",
            expected=f"at most {key.bits - 2} bits",
            next="multiply less often, declare a smaller input_range, or use a longer key",
        )


def encrypt(key: PublicKey, plain: Plain) -> Ciphers:
    """Encrypt every element with its own randomness."""
    flat = [key.raw(int(v)) for v in plain.ints.reshape(-1)]
    raw = Ciphers(key, objects(flat, plain.shape), plain.scale, plain.bound)
    return raw.rerandomised()


def decrypt(key: SecretKey, ciphers: Ciphers) -> npt.NDArray[Any]:
    """The values: float64, or int64 for scale 0.

    Raises:
        UsageError: ciphertexts under another key.
        ValueRangeError: a plaintext beyond its declared bound, or beyond int64.
    """
    return decode(decrypt_ints(key, ciphers), ciphers.scale)


def decrypt_ints(key: SecretKey, ciphers: Ciphers) -> Objects:
    """The plaintexts as Python integers."""
    if ciphers.key != key.public:
        raise UsageError(
            "ciphertexts under another key", got=repr(ciphers.key), expected=repr(key.public)
        )
    found = key.decrypt(list(ciphers.data.reshape(-1)))
    if any(abs(m) > ciphers.bound for m in found):
        raise ValueRangeError(
            "a decrypted value is beyond its declared bound",
            expected="what the owners' encoders let through",
            next="a party sent something else than what the protocol says",
        )
    return objects(found, ciphers.shape)


def concatenate(parts: Sequence[Ciphers]) -> Ciphers:
    """Arrays one after the other along the first axis, at their largest scale."""
    scale = max(part.scale for part in parts)
    same = [part.rescaled(scale) if part.scale < scale else part for part in parts]
    for part in same[1:]:
        same[0]._same_key(part, "beside")
    data = np.concatenate([part.data for part in same])
    return Ciphers(same[0].key, data, scale, max(part.bound for part in same))


def objects(flat: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    """An array of objects of a shape (numpy would look inside some of them)."""
    made = np.empty(len(flat), object)
    for i, one in enumerate(flat):
        made[i] = one
    return made.reshape(shape)


def _turned(plain: Plain) -> Plain:
    return Plain(plain.ints.T, plain.scale, plain.bound, plain.public)


def _array(found: Any) -> Objects:
    return found if isinstance(found, np.ndarray) else objects([found], ())


def _aligned(a: Ciphers, b: Ciphers) -> tuple[Ciphers, Ciphers]:
    scale = max(a.scale, b.scale)
    up = [x if x.scale == scale else x.rescaled(scale) for x in (a, b)]
    return up[0], up[1]


def _aligned_plain(a: Ciphers, b: Plain) -> tuple[Ciphers, Plain]:
    scale = max(a.scale, b.scale)
    if b.scale < scale:
        factor = 1 << (scale - b.scale)
        lifted = np.asarray(b.ints.astype(object) * factor, object)
        b = Plain(lifted, scale, b.bound * factor, b.public)
    return (a if a.scale == scale else a.rescaled(scale)), b


def _negated(other: Any) -> Any:
    if not isinstance(other, Plain):
        return other
    return Plain(np.asarray(-other.ints), other.scale, other.bound, other.public)
