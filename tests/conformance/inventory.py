"""Expressions over named secrets: what jax.numpy, jax.lax, jax.nn and jax.scipy lower to, as users
write it: inventory.txt. A line is compiled at once; adding a function is adding it to a line.

x y p u  floats [5]: any, any, positive, within (-1, 1)     n m  int32 [5]; m is never 0
X Z Y    floats [3, 4], [3, 4], [4, 2]; T [2, 3, 4]         N    int32 [3, 4]
S P      floats [3, 3], S with a dominant diagonal,         o    int32 [3], places 0 .. 2
         P symmetric and positive definite                  k j  int32, places 2 and 1
s t      one float; e E  none, [0] and [0, 3]               w v  uint8 and int8 [5]
I K L W  images and kernels in two dimensions and one       b d B c  Booleans [5], [5], [3, 4], one
h g      float16 and bfloat16 [5]                           Q    queries [1, 2, 3, 4]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax import lax, nn

RNG = np.random.default_rng(5)


def grid(values: Any) -> Any:
    """Floats that every ring encodes exactly."""
    return np.float32(np.rint(np.asarray(values) * 256) / 256)


_ROOT = RNG.uniform(-1, 1, (3, 3))
SECRETS: dict[str, Any] = {
    "x": grid([1.25, -2.5, 0.0, 3.0, -0.75]),
    "y": grid([0.5, -2.5, 1.0, -1.25, 2.0]),
    "p": grid([0.5, 1.25, 2.0, 3.5, 0.75]),
    "u": grid([0.5, -0.25, 0.0, 0.875, -0.75]),
    "X": grid(RNG.uniform(-2, 2, (3, 4))),
    "Z": grid(RNG.uniform(-2, 2, (3, 4))),
    "Y": grid(RNG.uniform(-2, 2, (4, 2))),
    "T": grid(RNG.uniform(-2, 2, (2, 3, 4))),
    "Q": grid(RNG.uniform(-2, 2, (1, 2, 3, 4))),
    "S": grid(np.eye(3) * 2 + RNG.uniform(-0.5, 0.5, (3, 3))),
    "P": grid(_ROOT @ _ROOT.T + np.eye(3)),
    "s": np.float32(1.5),
    "t": np.float32(-0.5),
    "e": np.zeros(0, np.float32),
    "E": np.zeros((0, 3), np.float32),
    "n": np.int32([5, -3, 0, 7, 2]),
    "m": np.int32([2, -2, 3, 1, -7]),
    "N": np.int32(RNG.integers(-9, 9, (3, 4))),
    "o": np.int32([0, 2, 1]),
    "k": np.int32(2),
    "j": np.int32(1),
    "w": np.uint8([200, 3, 0, 255, 16]),
    "v": np.int8([-128, 3, 0, 127, 16]),
    "b": np.array([True, False, True, True, False]),
    "d": np.array([False, False, True, True, True]),
    "B": RNG.integers(0, 2, (3, 4)).astype(np.bool_),
    "c": np.bool_(True),
    "I": grid(RNG.uniform(-1, 1, (2, 5, 6, 2))),
    "K": grid(RNG.uniform(-1, 1, (3, 3, 2, 4))),
    "L": grid(RNG.uniform(-1, 1, (2, 8, 3))),
    "W": grid(RNG.uniform(-1, 1, (3, 3, 2))),
    "h": np.float16([1.5, -2, 0, 0.25, 3]),
    "g": np.asarray(jnp.bfloat16([1.5, -2, 0, 0.25, 3])),
}
NAMES = {
    "jax": jax, "jnp": jnp, "lax": lax, "nn": nn, "jsp": jsp, "np": np,
    "la": jnp.linalg, "fft": jnp.fft, "sp": jsp.special,
}  # fmt: skip

ACCEPTED = (Path(__file__).parent / "inventory.txt").read_text().splitlines()

#: what is refused, and a part of what the error says
REFUSED = [
    ("jnp.nextafter(x, y)", "no neighbouring float"),
    ("jnp.spacing(x)", "no neighbouring float"),
    ("jnp.sort(lax.complex(x, y))", "x.real, x.imag"),
    ("jnp.roots(x[:3], strip_zeros=False)", "steps of Newton"),
    ("jnp.tanh(lax.complex(x, y))", "real and imaginary parts"),
    ("lax.bitcast_convert_type(n, jnp.float32)", "fixed point"),
    ("lax.bitcast_convert_type(x, jnp.int32)", "fixed point"),
    ("lax.bitcast_convert_type(n, jnp.int16)", "one width"),
    ("lax.random_gamma_grad(p, p)", "public numbers"),
    ("lax.polygamma(p, p)", "secret order"),
    ("lax.while_loop(lambda z: z.sum() < 4, lambda z: z + 1, x)", "sf.bounded_while"),
    ("lax.fori_loop(0, k, lambda i, z: z + 1, x)", "sf.bounded_while"),
    ("la.eig(S)", "linalg.eigh(x)"),
    ("x.at[o].apply(jnp.sin)", "as often as i names a place"),
    ("x[b]", "x.sum(where=mask)"),
    ("x.at[b].set(0.0)", "jnp.where(mask, x, other)"),
    ("jnp.nonzero(b)", "jnp.where"),
    ("jnp.arange(k)", "static argument"),
    ("float(s) + x", "jnp.where"),
    ("x if s > 0 else y", "jnp.where"),
    ("jax.pure_callback(lambda a: a, x, x)", "would see a secret"),
    ("jax.random.normal(jax.random.key(k), (3,))", "public key"),
    ("jax.random.normal(jax.random.PRNGKey(k), (3,))", "public key"),
    ("jax.random.normal(jax.random.fold_in(jax.random.key(0), k), (3,))", "public key"),
    ("jax.random.gamma(jax.random.key(0), p)", "public parameters"),
    ("jax.random.poisson(jax.random.key(0), p)", "public parameters"),
]
