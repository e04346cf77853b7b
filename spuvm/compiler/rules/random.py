"""Fresh secret randomness: bits that no party knows, and numbers made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spuvm.compiler import arith
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.numeric import logarithm
from spuvm.compiler.rules import Out, rule
from spuvm.compiler.values import Value, lift
from spuvm.errors import CompileError

TWO_LN_2 = np.asarray(2 * np.log(2.0))
SPARE = 8  # bits of a piece of a draw, at least
EVENNESS = 32  # bits by which a draw is longer than the number of outcomes


@rule("fresh")
def fresh(low: Lowering, out: list[Out], *like: Value, kind: str, below: int, **_: Any) -> Secret:
    """A draw of the given kind.

    bit    one fair bit.
    below  an integer in 0 .. below-1; for a `below` that is no power of two the probabilities
           differ from 1/below by at most a part of 2^-32.
    unit   a float in [0, 1), a multiple of 2^-f.
    squared_radius  -2 ln u for u uniform on the multiples of 2^-2f in (0, 1].
    """
    (o,) = out
    if kind == "bit":
        return Secret(low.random_bits(o.shape, 1), o.dtype)
    if kind == "below":
        return Secret(_below(low, o, below), o.dtype)
    f = low.f
    width = f if kind == "unit" else min(2 * f, low.bits - 3)
    made = low.emit("b2a", low.random_bits(o.shape, width))
    if kind == "unit":
        return Secret(arith.retype(low, made, f, 0, (1 << width) - 1), o.dtype)
    with low.unchecked():  # 2^f u as a float, of which the logarithm is taken at its best
        made = low.emit("add_ap", made, low.constant(low.ring.array(1)))
        log = logarithm.log(low, arith.retype(low, made, f, 1, 1 << width))
        made = arith.add_public(
            low, arith.mul_public(low, log, np.asarray(-2.0)), TWO_LN_2 * (width - f)
        )
    below = -(1 << max(0, f - 4))  # the logarithm may be off by a few units
    return Secret(low.narrowed(arith.settle(low, made), below, 4 * f << f), o.dtype)


@rule("shuffled")
def shuffled(
    low: Lowering, out: list[Out], *operands: Value, count: int, lead: int, **_: Any
) -> list[Secret]:
    """Arrays [*lead, n, ...] in one uniform secret order along axis `lead`, each batch its own."""
    groups, n = math.prod(out[0].shape[:lead]), out[0].shape[lead]
    ids = [lift(low, x, o.dtype).id for x, o in zip(operands[:count], out, strict=True)]
    ids = [low.emit("b2a", i) if low.type(i).kind == "b" else i for i in ids]
    if n < 2 or not all(math.prod(o.shape) for o in out):
        return [_bits_again(low, i, o) for i, o in zip(ids, out, strict=True)]
    with low.unchecked():
        tables = []
        for i in ids:
            columns = low.type(i).size // (groups * n)
            tables.append(low.reshape(arith.retype(low, i, 0), (groups, n, columns)))
        made = low.shuffle(low.concat(tables, 2))
        results, start = [], 0
        for i, o, table in zip(ids, out, tables, strict=True):
            t, width = low.type(i), low.shape(table)[2]
            part = low.reshape(low.cut(made, 2, start, start + width), o.shape)
            part = arith.retype(low, part, t.frac, *(t.bounds or (None, None)))
            results.append(_bits_again(low, part, o))
            start += width
    return results


def _bits_again(low: Lowering, x: int, o: Out) -> Secret:
    return Secret(low.emit("a2b", x, bits=1) if o.dtype == np.bool_ else x, o.dtype)


def _below(low: Lowering, o: Out, n: int) -> int:
    """floor(n r / 2^w) for w random bits r, taken in pieces from the lowest ones on.

    As in a product by hand, what a piece carries over is added to the product of the next one.
    """
    places = max(1, (n - 1).bit_length())
    if n == 1 << places or n == 1:
        made = low.emit("b2a", low.random_bits(o.shape, places))
        return made if n > 1 else low.emit("mul_ap", made, low.constant(low.ring.array(0)))
    room = low.bits - places
    if room < SPARE:
        raise CompileError(
            f"a random integer below {n} needs a wider ring",
            expected=f"at most {low.bits - SPARE} bits",
            next="use Config(ring=64)",
        )
    pieces = -(-(places + EVENNESS) // room)
    width = -(-(places + EVENNESS) // pieces)
    factor = low.constant(low.ring.array(np.array(n, object)))
    carry: int | None = None
    for _ in range(pieces):
        draw = low.emit("b2a", low.random_bits(o.shape, width))
        with low.unchecked():
            scaled = low.emit("mul_ap", draw, factor)
            if carry is not None:
                scaled = low.emit("add_aa", scaled, carry)
        digits = low.emit("a2b", scaled, bits=width + places)
        carry = low.emit("b2a", low.emit("bits_b", digits, low=width, width=places))
    assert carry is not None
    return low.narrowed(carry, 0, n - 1)


@rule("random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in")
@rule("random_bits", "random_clone", "threefry2x32", "rng_bit_generator")
def secret_key(low: Lowering, out: list[Out], *args: Value, **_: Any) -> Secret:
    """Raise: it would be a block cipher on shares, and a seed has fewer values than it seems."""
    raise CompileError(
        "jax.random with a secret key or seed is not supported",
        next="use a public key, which gives JAX's own values, or sf.random for values that "
        "nobody knows",
    )


@rule("random_gamma")
def random_gamma(
    low: Lowering, out: list[Out], key: Value | None = None, *more: Value, **_: Any
) -> Secret:
    """Raise: how many candidates are rejected would depend on the secret parameter."""
    if isinstance(key, Secret):
        return secret_key(low, out, key)
    raise CompileError(
        "samples of a gamma distribution (and of beta, dirichlet, chisquare, t and others made of "
        "it) with a secret parameter: how many candidates are rejected would depend on it",
        next="draw with public parameters; scaling and shifting the sample by secrets is possible",
    )
