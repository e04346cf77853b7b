"""What primitives of complex numbers are in real and imaginary parts.

A rule takes an equation and its operands: `Pair`, or what is public (an array, maybe complex), or
real. An imaginary part of None is 0. Errors are those of the real operations that are written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.compiler import fourier
from spuvm.errors import CompileError


class Pair(NamedTuple):
    """A complex value: `re + i im`; `im` is None where it is 0."""

    re: Any
    im: Any


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
_PARTWISE = (
    "add sub neg add_any broadcast_in_dim reshape transpose squeeze expand_dims slice "
    "dynamic_slice dynamic_update_slice concatenate rev pad gather select_n reduce_sum cumsum copy "
    "copy_p split stack stop_gradient optimization_barrier"
)
ONLY_HERE = frozenset(["complex", "conj", "fft", "imag", "real"])  # never reach lowering
PARTWISE = frozenset(_PARTWISE.split())


def is_complex(x: Any) -> bool:
    """Whether a value is one of ours or a public complex one."""
    return isinstance(x, Pair) or bool(
        jnp.issubdtype(getattr(x, "dtype", type(x)), np.complexfloating)
    )


def parts(x: Any) -> Pair:
    """Real and imaginary part, the latter None where it is known to be 0."""
    if isinstance(x, Pair):
        return x
    if not is_complex(x):
        return Pair(x, None)
    value = np.asarray(x)
    return Pair(value.real, value.imag if value.imag.any() else None)


def both(x: Any) -> tuple[Any, Any]:
    """Real and imaginary part as arrays."""
    re, im = parts(x)
    return re, jnp.zeros_like(re) if im is None else im


def find(name: str) -> Rule | None:
    """The rule of a primitive."""
    return _partwise if name in PARTWISE else RULES.get(name)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(fn: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


def _partwise(eqn: Any, *xs: Any) -> Any:
    """What is linear over the reals: the same equation on either part."""
    halves = [both(x) if is_complex(x) else (x, x) for x in xs]
    given = eqn.primitive.get_bind_params(eqn.params)
    re, im = (eqn.primitive.bind(*(h[k] for h in halves), **given) for k in (0, 1))
    if eqn.primitive.multiple_results:
        return [Pair(a, b) for a, b in zip(re, im, strict=True)]
    return Pair(re, im)


def _real_dtype(eqn: Any) -> Any:
    return np.empty(0, eqn.outvars[0].aval.dtype).real.dtype


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _bilinear(times: Callable[[Any, Any], Any], x: Any, y: Any) -> Pair:
    """(a + ib)(c + id) = ac - bd + i (ad + bc) for any product."""
    (a, b), (c, d) = parts(x), parts(y)
    re = times(a, c)
    re = re if b is None or d is None else re - times(b, d)
    im = _sum(None if d is None else times(a, d), None if b is None else times(b, c))
    return Pair(re, im)


def _product(x: Any, y: Any) -> Pair:
    return _bilinear(jnp.multiply, x, y)


def _quotient(x: Any, y: Any) -> Pair:
    """x / y = x conj(y / m) / (m |y / m|^2), m the larger part of y: nothing is squared that small
    or large parts would take out of the range of fixed point."""
    (a, b), (c, d) = parts(x), parts(y)
    if d is None:
        return Pair(a / c, None if b is None else b / c)
    scale = jnp.maximum(jnp.abs(c), jnp.abs(d))
    c, d = c / scale, d / scale
    a, b = _product(Pair(a, b), Pair(c, -d))
    below = (c * c + d * d) * scale
    return Pair(a / below, b / below)


def _abs(x: Any) -> Any:
    re, im = parts(x)
    return jnp.abs(re) if im is None else jnp.hypot(re, im)


RULES["mul"] = lambda eqn, x, y: _product(x, y)
RULES["div"] = lambda eqn, x, y: _quotient(x, y)
RULES["abs"] = lambda eqn, x: _abs(x)
RULES["real"] = lambda eqn, x: parts(x).re
RULES["imag"] = lambda eqn, x: both(x)[1]
RULES["square"] = lambda eqn, x: _product(x, x)


@_rule("complex")
def _complex(eqn: Any, re: Any, im: Any) -> Pair:
    """Either part may be a public number for all elements."""
    shape = eqn.outvars[0].aval.shape
    nothing = not isinstance(im, jax.core.Tracer) and not np.any(im)
    return Pair(jnp.broadcast_to(re, shape), None if nothing else jnp.broadcast_to(im, shape))


@_rule("conj")
def _conj(eqn: Any, x: Any) -> Pair:
    re, im = parts(x)
    return Pair(re, None if im is None else -im)


@_rule("convert_element_type")
def _convert(eqn: Any, x: Any) -> Any:
    """Between complex types, from real to complex, and to real or Boolean numbers."""
    re, im = parts(x)
    new = eqn.params["new_dtype"]
    if not jnp.issubdtype(new, np.complexfloating):
        if new == np.bool_:
            return (re != 0) if im is None else (re != 0) | (im != 0)
        return lax.convert_element_type(re, new)
    to = _real_dtype(eqn)
    return Pair(
        lax.convert_element_type(re, to), None if im is None else lax.convert_element_type(im, to)
    )


@_rule("integer_pow")
def _integer_pow(eqn: Any, x: Any) -> Pair:
    """By squaring; of a negative exponent, the reciprocal."""
    n, base = abs(eqn.params["y"]), parts(x)
    made = Pair(jnp.ones_like(base.re), None)
    while n:
        made = _product(made, base) if n & 1 else made
        n >>= 1
        base = _product(base, base) if n else base
    return made if eqn.params["y"] >= 0 else _quotient(Pair(jnp.ones_like(made.re), None), made)


@_rule("pow")
def _pow(eqn: Any, x: Any, y: Any) -> Pair:
    """e^(y log x)."""
    made: Pair = _exp(eqn, _product(_log(eqn, x), y))
    return made


@_rule("reduce_prod")
def _reduce_prod(eqn: Any, x: Any) -> Pair:
    """Products by halves."""
    axes = eqn.params["axes"]
    made = Pair(*(jnp.moveaxis(v, axes, range(len(axes))) for v in both(x)))
    made = Pair(*(v.reshape(-1, *v.shape[len(axes) :]) for v in made))
    while (n := made.re.shape[0]) > 1:
        odd = Pair(*(v[n - n % 2 :] for v in made))
        first, second = (Pair(*(v[k : n - n % 2 : 2] for v in made)) for k in (0, 1))
        made = Pair(*(jnp.concatenate(v) for v in zip(_product(first, second), odd, strict=True)))
    if not n:
        return Pair(jnp.ones_like(made.re, shape=made.re.shape[1:]), None)
    return Pair(made.re[0], made.im[0])


@_rule("scatter", "scatter-add", "scatter-sub", "scatter-mul")
def _scatter(eqn: Any, x: Any, where: Any, y: Any) -> Pair:
    """Part by part; factors are real."""
    name, given = eqn.primitive.name.replace("-", "_"), eqn.params
    (re, im), updates = both(x), both(y)
    if name == "scatter_mul":
        if parts(y).im is not None:
            raise CompileError(
                "x.at[...].multiply by complex factors", next="use x.at[...].set(x[...] * y)"
            )
        updates = (updates[0], updates[0])
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    kept = {k: given[k] for k in names}
    change = getattr(lax, name)
    return Pair(*(change(v, where, u, **kept) for v, u in zip((re, im), updates, strict=True)))


@_rule("dot_general", "conv_general_dilated")
def _dot(eqn: Any, x: Any, y: Any) -> Pair:
    given = dict(eqn.params)
    if given.get("preferred_element_type") is not None:
        given["preferred_element_type"] = _real_dtype(eqn)
    return _bilinear(lambda a, b: eqn.primitive.bind(jnp.asarray(a), jnp.asarray(b), **given), x, y)


@_rule("eq", "ne")
def _equal(eqn: Any, x: Any, y: Any) -> Any:
    (a, b), (c, d) = both(x), both(y)
    return (a == c) & (b == d) if eqn.primitive.name == "eq" else (a != c) | (b != d)


@_rule("is_finite")
def _finite(eqn: Any, x: Any) -> Any:
    re, im = both(x)
    return jnp.isfinite(re) & jnp.isfinite(im)


@_rule("sign")
def _sign(eqn: Any, x: Any) -> Pair:
    """x / |x|, and 0 of 0."""
    re, im = both(x)
    length = _abs(x)
    length = jnp.where(length == 0, 1.0, length)
    return Pair(re / length, im / length)


@_rule("exp")
def _exp(eqn: Any, x: Any) -> Pair:
    """e^re (cos im + i sin im)."""
    re, im = both(x)
    size = jnp.exp(re)
    return Pair(size * jnp.cos(im), size * jnp.sin(im))


@_rule("log")
def _log(eqn: Any, x: Any) -> Pair:
    """log |x| + i arg x."""
    re, im = both(x)
    return Pair(jnp.log(_abs(x)), jnp.arctan2(im, re))


@_rule("sqrt")
def _sqrt(eqn: Any, x: Any) -> Pair:
    """The root whose real part is not negative.

    The larger part is l = sqrt((|x| + |re|) / 2), the other one |im| / (2 l): where it is small,
    the difference of |x| and |re| would have few digits.
    """
    re, im = both(x)
    larger = jnp.sqrt((_abs(x) + jnp.abs(re)) / 2)
    smaller = jnp.abs(im) / jnp.where(larger == 0, 1.0, 2 * larger)
    up = jnp.where(re < 0, larger, smaller)
    return Pair(jnp.where(re < 0, smaller, larger), jnp.where(im < 0, -up, up))


@_rule("sinh")
def _sinh(eqn: Any, x: Any) -> Pair:
    """sinh re cos im + i cosh re sin im."""
    re, im = both(x)
    return Pair(jnp.sinh(re) * jnp.cos(im), jnp.cosh(re) * jnp.sin(im))


@_rule("cosh")
def _cosh(eqn: Any, x: Any) -> Pair:
    """cosh re cos im + i sinh re sin im."""
    re, im = both(x)
    return Pair(jnp.cosh(re) * jnp.cos(im), jnp.sinh(re) * jnp.sin(im))


@_rule("sin")
def _sin(eqn: Any, x: Any) -> Pair:
    """sin re cosh im + i cos re sinh im."""
    re, im = both(x)
    return Pair(jnp.sin(re) * jnp.cosh(im), jnp.cos(re) * jnp.sinh(im))


@_rule("cos")
def _cos(eqn: Any, x: Any) -> Pair:
    """cos re cosh im - i sin re sinh im."""
    re, im = both(x)
    return Pair(jnp.cos(re) * jnp.cosh(im), -jnp.sin(re) * jnp.sinh(im))


@_rule("fft")
def _fft(eqn: Any, x: Any) -> Any:
    re, im = parts(x)
    kind = str(getattr(eqn.params["fft_type"], "name", eqn.params["fft_type"])).split(".")[-1]
    made = fourier.transform(kind, tuple(eqn.params["fft_lengths"]), re, im)
    return made[0] if kind == "IRFFT" else Pair(*made)
