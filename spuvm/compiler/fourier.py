"""Discrete Fourier transforms of pairs of real arrays, as products with public matrices.

Along an axis of n elements X_k = sum_j x_j e^(-2 pi i jk / n) is one product of [re, im] with a
matrix of cosines and sines: local but for one rounding. Beyond 128 elements, n = n1 n2 is split
(Cooley and Tukey, 1965): transforms of n1, a product with e^(-2 pi i jk / n), transforms of n2. The
factor 1/n of the inverse is applied to the sums, where it costs no digits; entries divided by n
would have few of them.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

DIRECT = 128  # elements up to which one product is used


def transform(kind: str, lengths: tuple[int, ...], re: Any, im: Any) -> tuple[Any, Any]:
    """FFT, IFFT, RFFT or IRFFT over the last axes; `im` may be None for 0.

    An IRFFT has the lengths of its result.
    """
    axes = list(range(-len(lengths), 0))
    if kind == "RFFT":
        re, im = _along(-1, lambda a, b: _half(a, lengths[-1]), re, im)
        axes = axes[:-1]
    inverse = kind in ("IFFT", "IRFFT")
    for axis in axes[:-1] if kind == "IRFFT" else axes:
        re, im = _along(axis, lambda a, b: _full(a, b, inverse), re, im)
    return (_back(re, im, lengths[-1]), None) if kind == "IRFFT" else (re, im)


def _along(axis: int, fn: Any, re: Any, im: Any) -> tuple[Any, Any]:
    moved = [None if x is None else jnp.moveaxis(x, axis, -1) for x in (re, im)]
    a, b = fn(*moved)
    return jnp.moveaxis(a, -1, axis), jnp.moveaxis(b, -1, axis)


def _angles(n: int, rows: int, columns: int) -> Any:
    """2 pi jk / n, of jk modulo n: exact for any size."""
    return 2 * np.pi / n * (np.outer(np.arange(rows), np.arange(columns)) % n)


def _product(x: Any, matrix: Any) -> Any:
    return x @ jnp.asarray(matrix, x.dtype)


def _full(re: Any, im: Any, inverse: bool) -> tuple[Any, Any]:
    re, im = _sums(re, im, -1 if inverse else 1)
    n = re.shape[-1]
    return (re / n, im / n) if inverse else (re, im)


def _sums(re: Any, im: Any, sign: int) -> tuple[Any, Any]:
    """sum_j x_j e^(-2 pi i sign jk / n)."""
    n = re.shape[-1]
    n1 = max(k for k in range(1, math.isqrt(n) + 1) if n % k == 0)
    if n > DIRECT and n1 > 1:
        return _in_stages(re, im, n1, sign)
    angle = sign * _angles(n, n, n)
    c, s = np.cos(angle), np.sin(angle)
    if im is None:
        made = _product(re, np.concatenate([c, -s], 1))
    else:
        made = _product(jnp.concatenate([re, im], -1), np.block([[c, -s], [s, c]]))
    return made[..., :n], made[..., n:]


def _in_stages(re: Any, im: Any, n1: int, sign: int) -> tuple[Any, Any]:
    """With j = n2 j1 + j2 and k = k1 + n1 k2: sums over j1, then over j2."""
    n = re.shape[-1]
    n2 = n // n1

    def folded(x: Any) -> Any:
        return jnp.swapaxes(x.reshape(*x.shape[:-1], n1, n2), -1, -2)

    a, b = _sums(folded(re), None if im is None else folded(im), sign)  # [..., j2, k1]
    angle = sign * _angles(n, n2, n1)
    c, s = jnp.asarray(np.cos(angle), re.dtype), jnp.asarray(np.sin(angle), re.dtype)
    a, b = a * c + b * s, b * c - a * s
    a, b = _sums(jnp.swapaxes(a, -1, -2), jnp.swapaxes(b, -1, -2), sign)  # [..., k1, k2]
    return jnp.swapaxes(a, -1, -2).reshape(re.shape), jnp.swapaxes(b, -1, -2).reshape(re.shape)


def _half(re: Any, n: int) -> tuple[Any, Any]:
    """The first n // 2 + 1 frequencies of real numbers."""
    m = n // 2 + 1
    if n > DIRECT:
        re, im = _full(re, None, False)
        return re[..., :m], im[..., :m]
    angle = _angles(n, n, m)
    made = _product(re, np.concatenate([np.cos(angle), -np.sin(angle)], 1))
    return made[..., :m], made[..., m:]


def _back(re: Any, im: Any, n: int) -> Any:
    """n real numbers from the first n // 2 + 1 frequencies; the others are their conjugates."""
    m = n // 2 + 1
    im = jnp.zeros_like(re) if im is None else im
    if n > DIRECT:
        rest = slice(n - m, 0, -1)
        im = im.at[..., 0].set(0.0) if n % 2 else im.at[..., jnp.array([0, m - 1])].set(0.0)
        re = jnp.concatenate([re, re[..., rest]], -1)
        return _full(re, jnp.concatenate([im, -im[..., rest]], -1), True)[0]
    angle = _angles(n, m, n)
    twice = np.where((np.arange(m) == 0) | (2 * np.arange(m) == n), 1.0, 2.0)[:, None]
    matrix = np.concatenate([twice * np.cos(angle), -twice * np.sin(angle)], 0)
    return _product(jnp.concatenate([re, im], -1), matrix) / n
