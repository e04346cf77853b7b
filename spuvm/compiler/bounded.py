"""``bounded_while``: a loop that ends when a secret says so, without telling anybody when."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from spuvm.errors import UsageError

Carry = TypeVar("Carry")


def bounded_while(
    cond: Callable[[Carry], Any], body: Callable[[Carry], Carry], init: Carry, max_steps: int
) -> Carry:
    """``while cond(x): x = body(x)`` from x = `init`, at most `max_steps` times.

    Always runs `max_steps` times, so nobody learns when the predicate turned false; the result is
    frozen from there on. If it never did, the result is that after `max_steps` steps. `cond` gives
    a Boolean scalar, which may be secret; `body` keeps structure, shapes and dtypes. Plain JAX: it
    works under jit, vmap and grad (of what the body computes while it is active; the body must
    have finite derivatives after that too).

    Raises:
        UsageError: a number of steps that is not known in advance, or a predicate that is not a
            Boolean scalar.
    """
    try:
        steps = operator.index(max_steps)
    except TypeError as error:
        raise UsageError(
            "bounded_while: max_steps must be known in advance", got=type(max_steps).__name__
        ) from error
    if steps < 0:
        raise UsageError("bounded_while: max_steps cannot be negative", got=str(steps))

    def step(_: Any, state: tuple[Any, Carry]) -> tuple[Any, Carry]:
        active, value = state
        active = active & _predicate(cond(value))
        new = jax.tree.map(lambda yes, no: jnp.where(active, yes, no), body(value), value)
        return active, new

    # Python's numbers take the dtypes that arrays of them have.
    start = jax.tree.map(jnp.asarray, init)
    result: Carry = lax.fori_loop(0, steps, step, (jnp.asarray(True), start))[1]
    return result


def _predicate(made: Any) -> Any:
    flag = jnp.asarray(made)
    if flag.shape != () or flag.dtype != jnp.bool_:
        raise UsageError(
            "bounded_while: the predicate must be a Boolean scalar",
            got=f"{flag.dtype}{list(flag.shape)}",
            next="reduce it with .any() or .all()",
        )
    return flag
