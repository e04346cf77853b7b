"""The incomplete beta function as a JAX function of three real arrays, for lowering.

I_x(a, b) = Phi(z), and z is almost what it is for large a and b: with n = a + b, h = a b / n,
y = n x - a and L(m) = sqrt(2 (m - log(1 + m))) / |m|,
z = y / sqrt(h) sqrt(b / n L(y / a)^2 + a / n L(-y / b)^2) + c / sqrt(h), where c is smooth in
t = (x b - (1 - x) a) / (x b + (1 - x) a), in (b - a) / n and in 1 / h (Temme, SIAM J. Math. Anal.
13, 1982, section 3, has the terms; here c is fitted). It changes its sign with t and (b - a) / n.

What is below `START` is taken at a + START, b + START, and the terms between are added. Each is a
probability W_j = x^a (1 - x)^b gamma(a + b + 1) / (gamma(a + 1) gamma(b + 1)) at a + j and b + j,
times a number between -1 and 1 (Abramowitz and Stegun 26.5.15, 26.5.16).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.compiler.assume import assume_range
from spuvm.compiler.entropy import divergence
from spuvm.compiler.gammas import FAR, ends, leading, log_gamma_at, root_of, start_of
from spuvm.compiler.series import chebyshev, chebyshev_basis, interpolated
from spuvm.compiler.special import LGAMMA

Array = Any
NEAR = 0.6  # up to there log(1 - x) / x is a series
LEFT = 6.0  # times START: a probability is nothing where its mean is that far beyond


class _Fit(NamedTuple):
    """The series of c: degrees in 1 / h, (b - a) / n and t, and where t ends."""

    powers: int
    ratio: int
    turn: int
    slope: float
    end: float


def _fit(f: int) -> _Fit:
    if f <= 12:
        return _Fit(1, 3, 8, 0.3, 0.93)
    if f <= 20:
        return _Fit(2, 6, 12, 0.25, 0.93)
    return _Fit(3, 10, 20, 0.2, 0.93) if f <= 28 else _Fit(6, 18, 30, 0.125, 0.9)


@cache
def _corrections(start: int, fit: _Fit) -> tuple[Array, Array, Array]:
    """(powers of START / 2h, orders in (b - a) / n, their factors per order in t)."""
    from scipy import special as exact

    def nodes(count: int) -> Array:
        return np.cos(np.pi * (np.arange(count) + 0.5) / count)

    u, ratio, t = np.meshgrid(
        (nodes(fit.powers + 3) + 1) / 2,
        np.sin(np.pi / 2 * np.linspace(0.01, 0.9995, max(8, fit.ratio - 4))),
        fit.end * nodes(2 * fit.turn - 4),
        indexing="ij",
    )
    a, odds = start / u, (1 - ratio) / (1 + ratio)
    b = a / odds
    odds = odds * (1 + t) / (1 - t)
    x, rest = odds / (1 + odds), 1 / (1 + odds)
    y, h = x * b - rest * a, a * (1 + ratio) / 2
    z = y / np.sqrt(h)
    z *= np.sqrt((1 + ratio) / 2 * root_of(y / a) ** 2 + (1 - ratio) / 2 * root_of(-y / b) ** 2)
    lower, upper = exact.betainc(a, b, x), exact.betaincc(a, b, x)
    found = np.where(lower < 0.5, exact.ndtri(np.minimum(lower, 0.5)),
                     -exact.ndtri(np.minimum(upper, 0.5)))  # fmt: skip
    use = np.abs(z) < 12
    weight = (np.exp(-z * z / 8) / np.sqrt(h / start))[use]
    orders = [
        (i, j, k)
        for i in range(fit.powers + 1)
        for j in range(fit.ratio + 1)
        for k in range(fit.turn + 1)
        if (j + k) % 2 and i * fit.slope + j / fit.ratio + k / fit.turn <= 1.0001
    ]
    i, j, k = np.array(orders).T
    rows = (start / 2 / h)[use][:, None] ** i
    rows *= np.polynomial.chebyshev.chebvander(ratio[use], fit.ratio)[:, j]
    rows *= np.polynomial.chebyshev.chebvander(t[use] / fit.end, fit.turn)[:, k]
    wanted = ((found - z) * np.sqrt(h))[use] * weight
    made = np.linalg.lstsq(rows * weight[:, None], wanted, rcond=1e-13)[0]
    pairs = sorted({(p, r) for p, r, _ in orders})
    factors = np.zeros((fit.turn + 1, len(pairs)))
    for (p, r, turn), value in zip(orders, made, strict=True):
        factors[turn, pairs.index((p, r))] = value
    powers, ratios = np.array(pairs).T
    return powers, ratios, factors


@cache
def _logarithm(f: int) -> tuple[float, ...]:
    """-log(1 - x) / x for x in [0, NEAR]."""

    def function(t: Array) -> Array:
        x = np.maximum(NEAR * (t + 1) / 2, 1e-9)
        return -np.log1p(-x) / x

    return interpolated(function, 2.0 ** -(f + 6))


@cache
def _ratio_series(f: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """log(1 + r) / r and (1 + r) log(1 + r) / r - 1 for r in [0, 1]."""

    def first(t: Array) -> Array:
        r = np.maximum((t + 1) / 2, 1e-9)
        return np.log1p(r) / r

    def second(t: Array) -> Array:
        return (1 + (t + 1) / 2) * first(t) - 1

    return interpolated(first, 2.0 ** -(f + 6)), interpolated(second, 2.0 ** -(f + 6))


def betainc(a: Array, b: Array, x: Array, f: int) -> Array:
    """I_x(a, b), the regularized incomplete beta function, for a > 0, b > 0; x is clipped."""
    start = start_of(f)
    inside = jnp.clip(x, 0.0, 1.0)
    first, second = jnp.stack([a, b]) < start
    between = _between(a, b, inside, first, second, f)
    far = _far(jnp.where(first, a + start, a), jnp.where(second, b + start, b), inside, f)
    made = far + jnp.where(first | second, between, 0.0)
    return jnp.where(x > 0, jnp.where(x < 1, made, 1.0), 0.0)


@cache
def _stirling(f: int) -> tuple[float, ...]:
    """a times what Stirling's formula leaves of log gamma(a), in 1 / a from 0 to 1."""
    from scipy import special as exact

    def rest(t: Array) -> Array:
        a = 2 / np.maximum(t + 1, 1e-9)
        w = 1 / np.maximum(a, 30.0) ** 2
        far = 1 / 12 - w * (1 / 360 - w * (1 / 1260 - w / 1680))
        a = np.minimum(a, 30.0)
        near = a * (exact.gammaln(a) - (a - 0.5) * np.log(a) + a - 0.5 * np.log(2 * np.pi))
        return np.where(a < 30, near, far)

    return interpolated(rest, 2.0 ** -(f + 3))


def density(a: Array, b: Array, x: Array, f: int) -> Array:
    """The derivative of I_x(a, b) in x, for a > 0, b > 0 and 0 < x < 1; saturates.

    C. Loader, Fast and accurate computation of binomial probabilities, 2000: powers and gamma
    functions cancel, and what is left of them are relative entropies and a root. That is for a and
    b from 1 on; what is below is raised by 1, which is a factor a / (a + b) / x less.
    """
    first, second = jnp.stack([a, b]) < 1
    c, d = jnp.where(first, a + 1, a), jnp.where(second, b + 1, b)
    n, rest = c + d, 1 - x
    mean = n * x
    inverse = 1 / jnp.stack([c, d, n])
    left = inverse * chebyshev(_stirling(f), 2 * jnp.clip(inverse, 0.0, 1.0) - 1)
    total = jnp.where(second, n - 1, n)  # a + b, with a raised
    logs = jnp.log(jnp.stack([c, d, n, x, rest, a, b, jnp.where(first, total - 1, total), total]))
    log_c, log_d, log_n, log_x, log_rest, log_a, log_b, log_sum, log_total = logs
    ratios = jnp.stack([log_c - log_x, log_d - log_rest]) - log_n
    lost = divergence(jnp.stack([c, d]), jnp.stack([mean, n - mean]), f, ratios).sum(0)
    made = 0.5 * (log_c + log_d - log_n - np.log(2 * np.pi)) - log_x - log_rest
    made += left[2] - left[0] - left[1] - lost
    made += jnp.where(first, log_a - log_sum - log_x, 0.0)
    made += jnp.where(second, log_b - log_total - log_rest, 0.0)
    return jnp.where((x > 0) & (x < 1), jnp.exp(made), 0.0)


def _far(a: Array, b: Array, x: Array, f: int) -> Array:
    """I_x(a, b) for a and b from START on."""
    start, fit = start_of(f), _fit(f)
    n, larger = a + b, b > a
    most = jnp.where(larger, b, a)
    above, below = jnp.stack([b * x, a - a * x])
    y = above - below
    turn, first, second, part = jnp.stack([y, y, y, most]) / jnp.stack(
        [above + below, y + 2 * a, y - 2 * b, n]
    )
    part = assume_range(part, 0.4, 1.1)
    h = (n - most) * part
    scaled, inverse = jnp.stack([y, jnp.ones_like(y)]) / jnp.sqrt(h)
    share = jnp.where(larger, part, 1 - part)  # b / n
    lowest, highest = ends(f)
    w = jnp.clip(jnp.stack([first, second]), lowest, highest) - lowest
    w = w * (2 / (highest - lowest)) - 1
    root = assume_range(chebyshev(leading(f), w), 0.1, 2.4)
    of_a, of_b = root * root
    z = jnp.clip(scaled, -FAR, FAR) * jnp.sqrt(of_b + share * (of_a - of_b))
    inverse = assume_range(inverse, -0.1, (2.0 / start) ** 0.5 * 1.1)

    powers, ratios, factors = _corrections(start, fit)
    small = assume_range(inverse * inverse * (start / 2), -0.1, 1.1)
    raised = [jnp.ones_like(small), small]
    while len(raised) <= fit.powers:
        raised.append(assume_range(raised[-1] * small, -0.1, 1.1))
    skew = chebyshev_basis(jnp.clip(2 * share - 1, -1.0, 1.0), fit.ratio)
    pairs = jnp.stack(
        [skew[j] if i == 0 else raised[i] * skew[j] for i, j in zip(powers, ratios, strict=True)]
    )
    weights = jnp.tensordot(jnp.asarray(factors), assume_range(pairs, -1.2, 1.2), 1)
    basis = chebyshev_basis(jnp.clip(turn, -fit.end, fit.end) / fit.end, fit.turn)
    c = (assume_range(weights, -1.0, 1.0) * basis).sum(0)
    return 0.5 + 0.5 * jax.scipy.special.erf((z + c * inverse) * np.sqrt(0.5))


def _rest(inverse: Array) -> Array:
    """What Stirling's formula leaves of log gamma(n + 1), for 1 / n."""
    w = inverse * inverse
    made: Array = LGAMMA[-1]
    for c in LGAMMA[-2::-1]:
        made = made * w + c
    return inverse * made


def _between(a: Array, b: Array, x: Array, first: Array, second: Array, f: int) -> Array:
    """I_x(a, b) less what it is where a, b or both are raised: the `first`, the `second` is small.

    c is small and counts what has the probability u, d is any, for 1 - u = v.
    """
    start = start_of(f)
    both = first & second
    turned = second & ~both
    rest = 1 - x
    c, d, u, v = jnp.where(turned, jnp.stack([b, a, rest, x]), jnp.stack([a, b, x, rest]))
    c = jnp.clip(c, 0.0, start)
    near = jnp.clip(d, 0.0, start)  # d where both are small
    large = jnp.where(both, d + start, jnp.maximum(d, start))
    mean = jnp.clip(d * u, 0.0, LEFT * start)
    steps = np.arange(start, dtype=np.float64).reshape(-1, *(1 for _ in x.shape))

    count = c + near + 2 * steps  # c + d where both are small
    up, down = jnp.where(
        both,
        jnp.stack([near + steps, count]),
        jnp.stack([jnp.broadcast_to(d, count.shape), c + d + steps]),
    )
    ones = jnp.ones_like(count)
    divided = jnp.concatenate([up, ones, ones, jnp.stack([c, jnp.ones_like(c), jnp.ones_like(c)])])
    by = jnp.concatenate(
        [down, c + steps + 1, near + steps + 1, jnp.stack([large, large, large + c])]
    )
    share, of_c, of_d, few = jnp.split(divided / by, [start, 2 * start, 3 * start])
    ratio, inverse, sum_inverse = jnp.clip(few, 0.0, 1.0)

    # log W_0
    series, other = _ratio_series(f)
    r = 2 * ratio - 1
    lost = assume_range(ratio * chebyshev(series, r), -0.1, 0.8)
    stirling = c * chebyshev(other, r) + 0.5 * lost + _rest(sum_inverse) - _rest(inverse)
    quotients = jnp.clip(1 + c * of_d, 1.0, start + 1.0)
    while len(quotients) > 1:
        quotients = quotients[::2] * quotients[1::2]
    log_u, log_large, log_v, log_quotient = jnp.log(  # a product of u would be rounded first
        jnp.stack([jnp.maximum(u, 2.0**-f), large, jnp.where(v > 0, v, 1.0), quotients[0]])
    )
    log_grown = jnp.clip(log_u + log_large, -f - 3.0, np.log((LEFT + 1) * start))
    log_v = assume_range(log_v, -(f + 1.0), 0.1)
    near_one = chebyshev(_logarithm(f), jnp.minimum(u, NEAR) * (2 / NEAR) - 1)
    none = jnp.where(
        u > NEAR,
        jnp.clip(d, 0.0, LEFT * start / NEAR) * log_v,
        -mean * assume_range(near_one, 0.9, 1.6),
    )
    at = c * log_grown + none + stirling - log_gamma_at(c, f, 0)
    at = at - jnp.where(both, log_quotient, 0.0)

    # log W_j: sums of logarithms of quotients
    hit = (mean + u * (c + steps + 1 + jnp.where(both, steps, 0.0))) * of_c
    hit = hit * jnp.where(both, v * (1 + (c + steps + 1) * of_d), 1.0)
    logs = jnp.log(jnp.clip(hit[:-1], 2.0**-f, (LEFT + 1) * start))
    logs = assume_range(logs, -(f + 3.0), 8.0)
    parts = [at]
    for k in range(start - 1):
        parts.append(parts[-1] + logs[k])
    weights = jnp.exp(jnp.minimum(jnp.stack(parts), 0.1))
    share = assume_range(share, -0.1, 1.1) - jnp.where(both, u, 0.0)
    made = (weights * share).sum(0)
    return jnp.where(turned, -made, made)
