"""What people ask of tables, on secret columns: group-by sums and means, median, quantiles, PCA.

    python examples/statistics_of_tables.py

The column to group by is secret too: which row goes to which group stays hidden; how many groups
there are is public.
"""

import jax
import jax.numpy as jnp
import numpy as np

import spuvm as sf

GROUPS = 4


def table(rows=24, seed=0):
    """A column of groups, a column of amounts, and four correlated columns."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, GROUPS, rows).astype(np.int32)
    amount = rng.uniform(0, 1000, rows).astype(np.float32)
    columns = rng.normal(0, 1, (rows, 2)) @ rng.normal(0, 1, (2, 4)) + rng.normal(0, 0.1, (rows, 4))
    return group, amount, columns.astype(np.float32)


def by_group(group, amount):
    """Sum, count and mean of the amounts of every group."""
    total = jax.ops.segment_sum(amount, group, GROUPS)
    count = jax.ops.segment_sum(jnp.ones_like(amount), group, GROUPS)
    return total, count, total / jnp.maximum(count, 1)


def order_statistics(amount):
    """Median, quartiles and the 95th percentile."""
    return jnp.median(amount), jnp.quantile(amount, jnp.array([0.25, 0.75, 0.95]))


def principal_components(columns, kept=2):
    """Variances along the first components, and the squared lengths of the projected rows."""
    centred = columns - columns.mean(0)
    covariance = centred.T @ centred / (columns.shape[0] - 1)
    variances, directions = jnp.linalg.eigh(covariance)
    projected = centred @ directions[:, ::-1][:, :kept]
    return variances[::-1][:kept], (projected**2).sum(1)


def report(group, amount, columns):
    """Everything at once, so that independent parts share rounds."""
    return by_group(group, amount), order_statistics(amount), principal_components(columns)


def run(secure=sf.simulate):
    """The report computed on shares and in clear."""
    arguments = table()
    return secure(report)(*arguments), jax.jit(report)(*arguments)


if __name__ == "__main__":
    got, want = run()
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        print(np.round(g, 3), "largest difference", f"{np.abs(g - w).max():.2g}")
