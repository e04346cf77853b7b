"""The table of cases: one JAX function each, its inputs, its declared ranges, its target.

Every function is written once and runs under the JAX of both systems. Of spuvm only `functions` is
imported: plain JAX functions, the same ones that users call; the peer's environment can load them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import models
from benchmarks.elementwise import between, distinct, magnitudes
from spuvm.functions import average, logistic_gradient, logistic_loss, weighted_average

Form = Literal["declared", "full"]
PeerMode = Literal["default", "EXP_PADE"]
Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One row of the comparison.

    fn      the function of `make`'s arguments; every argument is a pytree of arrays.
    make    inputs from a seeded generator.
    ranges  what the declared form promises, one interval per argument.
    target  how many times faster than the peer is asked for; None: for information only.
    holds   the forms that must reach the target: products, with public factors too, only when
            declared, because the peer silently assumes |x*y| < 2^26; comparisons in both.
    public  positions of arguments that are public constants, in both systems.
    scope   ``run``: inputs already shared, result stays shared; ``io``: with sharing and revealing.
    assumed the same function with promises about values inside, for our declared form alone.
    peer    the algorithm of the peer's exponential: its default, or its accurate one.
    """

    name: str
    fn: Callable[..., Any]
    make: Callable[[np.random.Generator], tuple[Any, ...]]
    ranges: tuple[Range, ...]
    target: float | None
    holds: tuple[Form, ...] = ("declared",)
    public: tuple[int, ...] = ()
    scope: Literal["run", "io"] = "run"
    note: str = ""
    assumed: Callable[..., Any] | None = None
    peer: PeerMode = "default"

    def inputs(self) -> tuple[Any, ...]:
        """The arguments: float32, always the same for the same name."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return tuple(jax.tree.map(lambda x: np.asarray(x, np.float32), a) for a in self.make(rng))

    def secret_fn(self, args: Sequence[Any], form: Form = "full") -> Callable[..., Any]:
        """The function of the secret arguments alone, with the public ones bound."""
        fn = self.assumed if form == "declared" and self.assumed is not None else self.fn

        def bound(*secrets: Any) -> Any:
            rest = iter(secrets)
            return fn(*(a if i in self.public else next(rest) for i, a in enumerate(args)))

        bound.__name__ = "case"
        return bound

    def secrets(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The secret ones of the arguments."""
        return tuple(a for i, a in enumerate(args) if i not in self.public)

    def secret_ranges(self) -> tuple[Range, ...]:
        """The declared intervals of the secret arguments."""
        return tuple(r for i, r in enumerate(self.ranges) if i not in self.public)

    def reference(self, args: Sequence[Any]) -> list[np.ndarray]:
        """The flat results of the function on the same inputs in float64, in plaintext."""
        jax.config.update("jax_enable_x64", True)
        try:
            wide = jax.tree.map(lambda x: np.asarray(x, np.float64), tuple(args))
            return [np.asarray(leaf) for leaf in jax.tree.leaves(self.fn(*wide))]
        finally:
            jax.config.update("jax_enable_x64", False)


def digest(args: Sequence[Any]) -> str:
    """A short digest of the inputs, so that both systems can be checked to see the same ones."""
    h = hashlib.sha256()
    for leaf in jax.tree.leaves(tuple(args)):
        h.update(str(leaf.shape).encode() + np.ascontiguousarray(leaf).tobytes())
    return h.hexdigest()[:16]


def accuracy(got: Sequence[Any], want: Sequence[Any]) -> dict[str, float]:
    """Largest differences: `error` absolute, `scaled_error` over max(1, |want|)."""
    pairs = [(np.asarray(g, np.float64) - w, w) for g, w in zip(got, want, strict=True)]
    return {
        "error": max(float(np.abs(d).max()) for d, _ in pairs),
        "scaled_error": max(float((np.abs(d) / np.maximum(1, np.abs(w))).max()) for d, w in pairs),
    }


# --- the functions -----------------------------------------------------------------------------


def weighted_average_elementwise(trees: Sequence[Any], weights: Any) -> Any:
    """sum(w_i * x_i) / sum(w_i) as `numpy.average` computes it, vector by vector."""
    total = sum(weights[i] for i in range(len(trees)))
    return jax.tree.map(lambda *xs: sum(weights[i] * x for i, x in enumerate(xs)) / total, *trees)


def chained_products(x: Any, y: Any) -> Any:
    """x * y^100, one product after the other."""
    for _ in range(100):
        x = x * y
    return x


def smaller(x: Any, y: Any) -> Any:
    """A comparison and a selection."""
    return jnp.where(x < y, x, y)


def column_maximum(x: Any) -> Any:
    """Maximum over the first axis."""
    return jnp.max(x, axis=0)


def largest_ten(x: Any) -> Any:
    """The ten largest values, in descending order."""
    return jax.lax.top_k(x, 10)[0]


# --- the inputs --------------------------------------------------------------------------------


def _vectors(count: int, size: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: ([rng.uniform(-4, 4, size) for _ in range(count)],)


def _weighted(count: int, size: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        return [rng.uniform(-4, 4, size) for _ in range(count)], rng.integers(50, 500, count)

    return make


def _uniform(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: tuple(rng.uniform(-4, 4, shape) for shape in shapes)


def _scalars(rng: np.random.Generator) -> tuple[Any, ...]:
    return np.float32(0.9), np.float32(rng.uniform(0.98, 1.0))


def _regression(rows: int, features: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x = rng.uniform(-1, 1, (rows, features))
        truth, w = rng.normal(0, 1, features), rng.normal(0, 0.3, features)
        return w, x, x @ truth > 0

    return make


# --- the table ---------------------------------------------------------------------------------

BOTH: tuple[Form, ...] = ("declared", "full")
MODEL = (-8.0, 8.0)  # model weights
# The widest inputs for which |sum of products| < 2^26: what the peer silently assumes.
PRODUCT = (-8000.0, 8000.0)
# exp: from results below the last place to the largest that the accurate peer gets right; the
# declared range goes on to the largest that is representable.
EXP = (between(-14, 22), ((-14.0, 30.0),))
POSITIVE = (magnitudes(2**-10, 2**16), ((2.0**-10, 2.0**16),))
SIGNED = (magnitudes(2**-6, 2**10, signed=True), ((-(2.0**10), 2.0**10),))
RATIO = (-(2.0**10), 2.0**10)
SORTED = (-128.0, 128.0)


def _dot_range(terms: int) -> Range:
    bound = float(int((2**26 / terms) ** 0.5) - 1)
    return (-bound, bound)


def _matmul(m: int, k: int, n: int, target: float) -> Case:
    name = f"matmul {m}" if m == k == n else f"matmul {m}x{k}x{n}"
    ranges = (_dot_range(k),) * 2
    return Case(name, jnp.matmul, _uniform((m, k), (k, n)), ranges, target)


def _weighted_mean(
    words: str, fn: Callable[..., Any], *, public: tuple[int, ...] = (), note: str = ""
) -> Case:
    name, ranges = f"weighted mean 10x1e5, {words}", (MODEL, (1.0, 1000.0))
    return Case(name, fn, _weighted(10, 10**5), ranges, 10, public=public, note=note)


CASES: tuple[Case, ...] = (
    Case("mean 10x1e5", average, _vectors(10, 10**5), (MODEL,), 10),
    Case("mean 10x1e6", average, _vectors(10, 10**6), (MODEL,), 10),
    Case("mean 100x1e5", average, _vectors(100, 10**5), (MODEL,), 10),
    Case(
        "mean 10x1e6, sharing and revealing",
        average,
        _vectors(10, 10**6),
        (MODEL,),
        10,
        scope="io",
    ),
    _weighted_mean("public weights", weighted_average, public=(1,)),
    _weighted_mean("secret weights", weighted_average),
    _weighted_mean(
        "secret weights, elementwise",
        weighted_average_elementwise,
        note="as numpy.average computes it; the function of the package suits the peer better",
    ),
    Case("multiply 1e6", jnp.multiply, _uniform((10**6,), (10**6,)), (PRODUCT,) * 2, 4),
    Case("100 chained products", chained_products, _scalars, ((-1, 1),) * 2, 6),
    _matmul(256, 256, 256, 4),
    _matmul(512, 512, 512, 3),
    _matmul(1024, 1024, 1024, 2),
    _matmul(64, 4096, 64, 50),
    Case(
        "LR gradient 1024x100, autodiff",
        jax.grad(logistic_loss),
        _regression(1024, 100),
        (MODEL, (-4, 4), (0, 1)),
        6,
    ),
    Case(
        "LR gradient 1024x100, closed form",
        logistic_gradient,
        _regression(1024, 100),
        (MODEL, (-4, 4), (0, 1)),
        6,
    ),
    Case("less + where 1e6", smaller, _uniform((10**6,), (10**6,)), (PRODUCT,) * 2, 5, BOTH),
    Case("relu 1e6", jax.nn.relu, _uniform((10**6,)), (PRODUCT,), 5, BOTH),
    Case("max over 10x1e5", column_maximum, _uniform((10, 10**5)), (PRODUCT,), 5, BOTH),
    Case("exp 1e5, full range", jnp.exp, *EXP, 1, BOTH),
    Case("exp 1e5, full range, accurate peer", jnp.exp, *EXP, 8, BOTH, peer="EXP_PADE"),
    Case("exp 1e5, small", jnp.exp, between(-2, 2), ((-2, 2),), None, BOTH),
    Case("log 1e5", jnp.log, *POSITIVE, 5, BOTH),
    Case("sigmoid 1e5", jax.nn.sigmoid, between(-16, 16), ((-16, 16),), 5, BOTH),
    Case("tanh 1e5", jnp.tanh, between(-8, 8), ((-8, 8),), 5, BOTH),
    Case("reciprocal 1e5", jnp.reciprocal, *SIGNED, 5, BOTH),
    Case("divide 1e5", jnp.divide, magnitudes(2**-6, 2**10, 2, signed=True), (RATIO,) * 2, 5, BOTH),
    Case("sqrt 1e5", jnp.sqrt, *POSITIVE, 5, BOTH),
    Case("rsqrt 1e5", jax.lax.rsqrt, *POSITIVE, 5, BOTH),
    Case("sort 1e4", jnp.sort, distinct(10**4), (SORTED,), 4, BOTH),
    Case("argmax 1e5", jnp.argmax, distinct(10**5), (SORTED,), 4, BOTH),
    Case("top_k(10) of 1e5", largest_ten, distinct(10**5), (SORTED,), 4, BOTH),
    Case("softmax 1000x100", models.softmax, models.rows, (MODEL,), 4),
    Case("layer norm 1000x100", models.layer_norm, models.rows, (MODEL,), 4),
    Case("layer norm 10000x100", models.layer_norm, models.many_rows, (MODEL,), None),
    Case("gelu 1000x100", jax.nn.gelu, models.rows, (MODEL,), 4),
    Case(
        "LR training 569x30, 10 epochs, autodiff",
        models.regression_by_autodiff,
        models.patients,
        (MODEL, (-1, 1), (0, 1)),
        6,
        assumed=models.small_regression_by_autodiff,
    ),
    Case(
        "LR training 569x30, 10 epochs, closed form",
        models.regression_in_closed_form,
        models.patients,
        (MODEL, (-1, 1), (0, 1)),
        6,
        assumed=models.small_regression_in_closed_form,
    ),
    Case("MLP 784-128-128-10, batch 64", models.network, models.digits, (MODEL, (0, 1)), 8),
    Case(
        "MLP training step, batch 64",
        models.training_step,
        models.labelled_digits,
        (MODEL, (0, 1), (0, 1)),
        8,
    ),
    Case("LeNet, batch 16", models.lenet, models.images, (MODEL, MODEL, (0, 1)), 4),
)


def select(pattern: str) -> list[Case]:
    """Cases whose name contains the pattern or matches it as a shell pattern."""
    return [c for c in CASES if pattern in c.name or fnmatch.fnmatch(c.name, pattern)]


def find(name: str) -> Case:
    """The case of that name."""
    return next(c for c in CASES if c.name == name)
