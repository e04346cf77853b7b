"""Square roots: the mantissa by a polynomial, half the exponent put back."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from spuvm.compiler import arith, facts, inverses, moments
from spuvm.compiler.context import Lowering
from spuvm.compiler.moment_facts import FineRoot
from spuvm.compiler.numeric.polynomial import Real, evaluate, internal_bits, shortest
from spuvm.compiler.numeric.scaling import Centred, centred

Floats = npt.NDArray[np.float64]


def _root(m: Floats) -> Floats:
    return np.sqrt(m)


def _inverse_root(m: Floats) -> Floats:
    return 1.0 / np.sqrt(m)


def _odd_root(m: Floats) -> Floats:
    return np.sqrt(2.0 * m)


def _odd_inverse_root(m: Floats) -> Floats:
    return 1.0 / np.sqrt(2.0 * m)


def sqrt(low: Lowering, x: int) -> int:
    """Square root with the program's fraction bits; 0 for x <= 0. Error about 2^-18 relative."""
    fine = moments.fine(low, x)
    x = moments.for_root(low, x)
    with low.unchecked():
        # x = m 2^(top - s - frac): sqrt(m 2^odd) 2^((most - s)/2) 2^(half - most/2)
        c = centred(low, x, parity=2)
        half, odd = divmod(c.normal.top - low.frac(x), 2)
        root = _mantissa(low, c, _odd_root if odd else _root)
        scale = c.normal.product(low, lambda s, most: 1 << (most - s) // 2, 0)
        made = _scaled(low, root, scale, half - c.normal.most // 2, low.f)
        top = low.type(x).hi
        limit = math.isqrt((low.bound if top is None else max(top, 0)) << low.f) + 1
        slack = (limit >> low.f // 2) + 2
        made = low.narrowed(made, 0, (limit + slack) << max(0, low.f - low.frac(x)) // 2)
        if low.magnitude(x) >= low.full:
            low.vague.add(made)
        return facts.mark(low, made, FineRoot()) if fine else made


def rsqrt(low: Lowering, x: int) -> int:
    """1 / sqrt(x); the largest number for x <= 0. Error about 2^-18 relative."""
    x = moments.for_root(low, x)
    most = math.sqrt(2.0 ** low.frac(x))
    return inverses.note(low, _rsqrt(low, x, low.f), most, lambda frac: _rsqrt(low, x, frac))


def _rsqrt(low: Lowering, x: int, frac: int) -> int:
    with low.unchecked():
        # x = m 2^(top - s - frac): 1 / sqrt(m 2^odd) 2^(s/2) 2^-half
        c = centred(low, x, parity=2)
        half, odd = divmod(c.normal.top - low.frac(x), 2)
        root = _mantissa(low, c, _odd_inverse_root if odd else _inverse_root)
        scale = c.normal.product(low, lambda s, most: 1 << s // 2, 0)
        made = _scaled(low, root, scale, -half, frac)
        made = low.narrowed(made, 0, (1 << frac + (low.frac(x) + 1) // 2) + (1 << frac))
        if c.normal.zero is None:
            return made
        most = low.integer(low.bound - 1, frac)  # where the factor is 0
        missing = low.emit("mul_ap", c.normal.missing(low), most)
        return low.narrowed(low.emit("add_aa", made, missing), 0, low.bound - 1)


def _mantissa(low: Lowering, c: Centred, function: Real) -> int:
    """function(mantissa), which is at most 2.1, with internal_bits."""
    g = internal_bits(low)
    root = evaluate(low, c.w, shortest(function, c.lo, c.hi, 2.0 ** -(low.f + 1), "relative"), g)
    return low.narrowed(root, 0, math.ceil(2.1 * 2**g))


def _scaled(low: Lowering, x: int, scale: int | None, up: int, frac: int) -> int:
    """x * scale * 2^up with `frac` fraction bits."""
    if scale is not None:
        x = low.emit("mul_aa", *sorted((x, scale)), trunc=0, form="narrow")
    return arith.to_frac(low, arith.retype(low, x, low.frac(x) - up), frac)
