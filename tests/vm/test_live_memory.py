"""Peak memory of a run is within a small multiple of the shares that are alive in it."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parties import Trio

from benchmarks.memory import live_bytes
from spuvm.compiler import CompileConfig, SecretSpec, compile_function
from spuvm.functions import average, weighted_average
from spuvm.fxp import Fxp
from spuvm.ring import Ring

CONFIG = CompileConfig(Ring(64), Fxp(Ring(64), 18), "warn")
MOST = 3  # of arrays; for the whole process, with what its allocator keeps, 4 is asked for
SIZE = 1 << 17
BOUNDS = (-8.0, 8.0)

LARGE = ((SIZE,), (SIZE,))
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "mean": (lambda *xs: average(xs), ((SIZE,),) * 10),
    "weighted mean": (lambda w, *xs: weighted_average(xs, w), ((8,), *((SIZE,),) * 8)),
    "product": (jnp.multiply, LARGE),
    "chain": (lambda x, y: ((x * y + x) * y - x) * y, LARGE),
    "comparison": (lambda x, y: jnp.where(x < y, x, y), LARGE),
    "relu": (jax.nn.relu, LARGE[:1]),
    "maximum": (lambda x: jnp.max(x, axis=0), ((8, SIZE // 8),)),
    "matrix product": (jnp.matmul, ((384, 384), (384, 384))),
    "sigmoid": (jax.nn.sigmoid, LARGE[:1]),
    "exponential": (jnp.exp, LARGE[:1]),
    "quotient": (lambda x, y: x / (y * y + 1), LARGE),
    "one weight per vector": (
        lambda w, *xs: sum(w[i] * x for i, x in enumerate(xs)),
        ((4,), *((SIZE // 4,),) * 4),
    ),
    "one factor per row": (lambda x, y: x * y, ((1024, 128), (1024, 1))),
    "wide matrix product": (jnp.matmul, ((32, 4096), (4096, 32))),
    "sort": (jnp.sort, ((1 << 13,),)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ranges", ["declared", "open"])
def test_peak_of_a_run(name: str, ranges: str) -> None:
    function, shapes = CASES[name]
    bounds = BOUNDS if ranges == "declared" else (None, None)
    specs = tuple(SecretSpec(shape, "float32", "owner", *bounds) for shape in shapes)
    program = compile_function(function, specs, config=CONFIG).program
    rng = np.random.default_rng(0)
    machines = Trio(Ring(64))
    try:
        names = [f"x{i}" for i in range(len(shapes))]
        tracemalloc.start()
        for each, shape in zip(names, shapes, strict=True):
            machines.put(each, CONFIG.fxp.encode(rng.uniform(0.5, 4, shape).astype(np.float32)))
        tracemalloc.reset_peak()
        machines.execute(program, names, [f"y{i}" for i in range(len(program.outputs))])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        machines.close()
    live = 3 * live_bytes(program)
    assert peak <= MOST * live, f"{peak / 1e6:.1f} MB for {live / 1e6:.1f} MB of live shares"
