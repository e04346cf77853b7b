"""Integrals without a closed form, and Bessel functions, as JAX functions of one real array.

JAX evaluates these by polynomials with coefficients that fixed point cannot hold (from 1e-22 to
1e12). Here they are series in the Chebyshev basis, whose coefficients are small, on two parts of
the line: in x^2 near 0, and in 1/x^2 beyond, times what is left when the asymptotic behaviour is
taken out: with the auxiliary functions f and g of Abramowitz and Stegun 5.2.6 and 7.3.5. The
accuracy contract holds wherever arguments and results are representable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from spuvm.compiler.assume import assume_range
from spuvm.compiler.series import Array, chebyshev, finer, interpolated
from spuvm.fxp import Fxp

SCALE = 3.0  # erfcx is a series in (x - 3) / (x + 3)
DAWSON, FRESNEL, SINE = 3.0, 2.0, 5.0  # where the two parts meet
ROOM, MORE = 0.8, 1.05  # both parts go on a little beyond that: squares and quotients are rounded


def _square(t: Array, end: float) -> Array:
    """x^2 from 0 to about `end` for t in [-1, 1]; never 0."""
    return np.maximum((t + 1) / 2 * end * MORE, 1e-20)


def _far(t: Array, start: float) -> Array:
    """x from about `start` on: t is ROOM * 2 (start / x)^2 - 1."""
    return start * ROOM**0.5 / np.sqrt(np.maximum((t + 1) / 2, 1e-9))


def _parts(size: Array, meet: float) -> tuple[Array, Array, Array, Array]:
    """(is size > meet, size there and meet elsewhere, w of the far part, w of the near part)."""
    far = size > meet
    outer = jnp.where(far, size, meet)
    inner = jnp.where(far, meet, size)
    inverse = meet / outer
    return far, outer, 2 * ROOM * inverse * inverse - 1, inner * inner * (2 / MORE / meet**2) - 1


def _part(function: Callable[[Array], tuple[Array, ...]], number: int) -> Callable[[Array], Array]:
    """One of the results."""
    return lambda t: function(t)[number]


def _magnitude(x: Array, sign: str) -> Array:
    return x if sign == "positive" else jnp.abs(x)


def _odd(x: Array, made: Array, sign: str) -> Array:
    return made if sign == "positive" else jnp.where(x < 0, -made, made)


@cache
def _erfcx_series(f: int) -> tuple[float, ...]:
    from scipy import special as exact

    def scaled(t: Array) -> Array:
        x = SCALE * (1 + t) / np.maximum(1 - t, 1e-9)
        return exact.erfcx(x) * (1 + 2 * x)

    return interpolated(scaled, 2.0 ** -(f + 2))


def _erfcx_series_at(x: Array, f: int) -> Array:
    """erfcx(x) (1 + 2 x) for x >= 0; its argument is a quotient that is small near 0, less 1."""
    return chebyshev(_erfcx_series(f), 2 * x / (x + SCALE) - 1)


def erfcx(x: Array, fxp: Fxp, sign: str) -> Array:
    """exp(x^2) erfc(x): M. Shepherd and J. Laframboise 1981, section 2; saturates for x << 0."""
    f, most = fxp.frac_bits, fxp.max_float
    size = jnp.minimum(_magnitude(x, sign), min(2.0 ** (f + 2), most / 4))
    made = _erfcx_series_at(size, f) * (0.5 / (size + 0.5))
    if sign == "positive":
        return made
    end = float(np.sqrt(np.log(most)) + 0.5)
    below = jnp.clip(x, -end, 0)
    grown = jnp.exp(assume_range(below * below, 0.0, end * end + 0.1))
    rest = grown - made  # twice the first may leave the range where the result saturates
    return jnp.where(x < 0, jnp.minimum(grown, most / 2) + jnp.minimum(rest, most / 2), made)


def log_ndtr(x: Array, fxp: Fxp, sign: str) -> Array:
    """The logarithm of the normal distribution's probability up to x.

    Below 0 by the series of erfcx, since the probability itself is soon less than a unit there;
    saturates.
    """
    most = np.sqrt(fxp.max_float * (1 - 2.0**-13))
    size = jnp.minimum(_magnitude(x, sign) * np.sqrt(0.5), float(most))
    if sign == "positive":
        return finer(_log_above)(size)
    below = x < 0

    def logarithm(size: Array, below: Array) -> Array:
        series = 0.5 * _erfcx_series_at(size, fxp.frac_bits)
        both = jnp.stack([jnp.where(below, series, _above(size)), 2 * size + 1])
        first, second = jnp.log(both)
        return first - jnp.where(below, second, 0.0)

    return finer(logarithm)(size, below) - jnp.where(below, size * size, 0.0)


def _above(size: Array) -> Array:
    """The normal distribution up to sqrt(2) size, for size >= 0."""
    return 0.5 + 0.5 * jax.scipy.special.erf(size)


def _log_above(size: Array) -> Array:
    return jnp.log(_above(size))


def ndtri(p: Array, fxp: Fxp, sign: str) -> Array:
    """Where the normal distribution's probability is p; as erf_inv beyond 0 and 1."""
    return np.sqrt(2.0) * lax.erf_inv(2 * p - 1)


def erfcinv(y: Array, fxp: Fxp, sign: str) -> Array:
    """Where erfc is y; as erf_inv beyond 0 and 2."""
    return lax.erf_inv(1 - y)


@cache
def _dawsn_series(f: int) -> tuple[tuple[float, ...], ...]:
    from scipy import special as exact

    def near(t: Array) -> Array:
        x = np.sqrt(_square(t, DAWSON**2))
        return exact.dawsn(x) / x

    def far(t: Array) -> Array:
        x = _far(t, DAWSON)
        return exact.dawsn(x) * x

    return interpolated(near, 2.0 ** -(f + 3)), interpolated(far, 2.0 ** -(f + 1))


def dawsn(x: Array, fxp: Fxp, sign: str) -> Array:
    """exp(-x^2) times the integral of exp(t^2) from 0 to x."""
    size = _magnitude(x, sign)
    far, outer, v, u = _parts(size, DAWSON)
    near_series, far_series = _dawsn_series(fxp.frac_bits)
    inner = jnp.where(far, DAWSON, size)
    made = jnp.where(far, chebyshev(far_series, v) / outer, inner * chebyshev(near_series, u))
    return assume_range(_odd(x, made, sign), -0.6, 0.6)


@cache
def _fresnel_series(f: int) -> tuple[tuple[float, ...], ...]:
    """S / x^3 and C / x in x^4; f x and g x^3 in 1 / x^4, the far ones for x^2 from FRESNEL."""
    from scipy import special as exact

    def near(t: Array) -> tuple[Array, Array]:
        x = _square(t, FRESNEL**2) ** 0.25
        s, c = exact.fresnel(x)
        return s / x**3, c / x

    def far(t: Array) -> tuple[Array, Array]:
        y = _far(t, FRESNEL)
        x, angle = np.sqrt(y), np.pi / 2 * np.fmod(y, 4)
        s, c = exact.fresnel(x)
        s, c = 0.5 - s, 0.5 - c
        return (
            (s * np.cos(angle) - c * np.sin(angle)) * x,
            (c * np.cos(angle) + s * np.sin(angle)) * x * y,
        )

    return tuple(interpolated(_part(fn, i), 2.0 ** -(f + 3)) for fn in (near, far) for i in (0, 1))


def _square_modulo_4(x: Array) -> Array:
    """A number in [0, 6] that x^2 differs from by a multiple of 4, for x >= 0: x = i + r."""
    whole = jnp.floor(x)
    rest = x - whole
    odd = whole - 2 * jnp.floor(whole * 0.5)
    product = whole * rest
    return odd + 2 * (product - 2 * jnp.floor(product * 0.5)) + rest * rest


def fresnel(x: Array, fxp: Fxp, sign: str) -> tuple[Array, Array]:
    """The integrals of sin(pi t^2 / 2) and cos(pi t^2 / 2) from 0 to x."""
    size = _magnitude(x, sign)
    far = size > FRESNEL**0.5
    inverse = 1 / jnp.where(far, size, FRESNEL**0.5)
    inner = jnp.where(far, FRESNEL**0.5, size)
    square, small = inner * inner, FRESNEL * inverse * inverse
    u, v = square * square * (2 / MORE / FRESNEL**2) - 1, 2 * ROOM * small * small - 1
    near_s, near_c, far_f, far_g = _fresnel_series(fxp.frac_bits)
    first = chebyshev(far_f, v) * inverse
    second = chebyshev(far_g, v) * inverse * inverse * inverse
    angle = assume_range(_square_modulo_4(size), 0.0, 6.01) * (np.pi / 2)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    s = jnp.where(far, 0.5 - first * cosine - second * sine, inner * square * chebyshev(near_s, u))
    c = jnp.where(far, 0.5 + first * sine - second * cosine, inner * chebyshev(near_c, u))
    return tuple(assume_range(_odd(x, v, sign), -0.9, 0.9) for v in (s, c))


@cache
def _sici_series(f: int) -> tuple[tuple[float, ...], ...]:
    """Si / x and Cin in x^2; f x and g x^2 in 1 / x^2."""
    from scipy import special as exact

    def near(t: Array) -> tuple[Array, Array]:
        x = np.sqrt(_square(t, SINE**2))
        s, c = exact.sici(x)
        return s / x, np.euler_gamma + np.log(x) - c

    def far(t: Array) -> tuple[Array, Array]:
        x = np.minimum(_far(t, SINE), 1e3)
        s, c = exact.sici(x)
        s = np.pi / 2 - s
        return (
            (c * np.sin(x) + s * np.cos(x)) * x,
            (s * np.sin(x) - c * np.cos(x)) * x * x,
        )

    return tuple(
        interpolated(_part(fn, i), 2.0 ** -(f + 2), 40) for fn in (near, far) for i in (0, 1)
    )


def sici(x: Array, fxp: Fxp, sign: str) -> tuple[Array, Array]:
    """The sine integral, and the cosine integral of |x|."""
    size = _magnitude(x, sign)
    far, outer, v, u = _parts(size, SINE)
    inner = jnp.where(far, SINE, size)
    near_s, near_c, far_f, far_g = _sici_series(fxp.frac_bits)
    sine, cosine, inverse = jnp.sin(outer), jnp.cos(outer), 1 / outer
    first = chebyshev(far_f, v) * inverse
    second = chebyshev(far_g, v) * inverse * inverse
    s = jnp.where(far, np.pi / 2 - first * cosine - second * sine, inner * chebyshev(near_s, u))
    near = np.euler_gamma + jnp.log(inner) - chebyshev(near_c, u)
    c = jnp.where(far, first * sine - second * cosine, near)
    return assume_range(_odd(x, s, sign), -1.95, 1.95), c


def bessel_jn(x: Array, order: int, steps: int) -> Array:
    """J_0 .. J_order, stacked, right for |x| up to `steps`, as in JAX: by the trapezoid rule.

    J_n(x) is the mean over a circle of cos(n a) cos(x sin a) for even n, of sin(n a) sin(x sin a)
    for odd n: with N points right up to J_(N - n)(x). A quarter of the circle says everything.
    """
    points = -(-(steps + order + 24) // 4)
    angles = (np.arange(points) + 0.5) * (np.pi / 2 / points)
    numbers = np.arange(order + 1)
    even = np.cos(numbers[::2, None] * angles) / points
    odd = np.sin(numbers[1::2, None] * angles) / points
    turned = jnp.asarray(np.sin(angles), x.dtype).reshape((-1, *(1 for _ in x.shape))) * x[None]
    rows: list[Array] = [None] * (order + 1)
    for start, weights, function in ((0, even, jnp.cos), (1, odd, jnp.sin)):
        if weights.size:
            made = jnp.tensordot(jnp.asarray(weights, x.dtype), function(turned), 1)
            rows[start::2] = [lax.index_in_dim(made, i, 0, False) for i in range(len(weights))]
    return assume_range(jnp.stack(rows), -1.1, 1.1)


FUNCTIONS: dict[str, Callable[[Array, Fxp, str], Array | tuple[Array, ...]]] = {
    "_erfcx": erfcx,
    "_dawsn": dawsn,
    "log_ndtr": log_ndtr,
    "_ndtri": ndtri,
    "_erfcinv": erfcinv,
    "fresnel": fresnel,
    "sici": sici,
}
"""By the name of JAX's own function."""
