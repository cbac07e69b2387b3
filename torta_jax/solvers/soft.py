"""Soft prices and a regret greedy: a matching in a fixed number of steps, near the best, with no stragglers.

The dual prices of entropic transport from tasks to servers (`solvers.dual`) say what a place on each server is worth.
Tasks then choose in the order of their regret, what they would lose by their second choice.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from torta_jax.solvers import checks, dual
from torta_jax.solvers.matching import UNMATCHED, Assignment, Matching, assignment, matching

TEMPERATURE = 3e-3
"""Of the entropy, as a share of the range of values."""

BUDGET = dual.Budget(tight=False, scaling_steps=20, newton_steps=12, final_steps=4, lengths=(8.0, 1.0))
"""Prices good enough to choose by, or to start an auction from; tighter ones take longer and match no better."""


def prices(problem: Assignment, temperature=TEMPERATURE) -> jax.Array:
    """[S] prices of the entropic problem, in the units of `problem`."""
    unit = jnp.maximum(problem.unit, 1).astype(float)
    worth = jnp.append(problem.value, problem.outside[:, None], axis=1) / unit
    transport = dual.Problem(
        cost=jnp.where(worth < 0, 2 * dual.NOWHERE, 1 - worth).T,
        mass=problem.mask.astype(worth.dtype),
        bound=jnp.where(problem.room > 0, problem.room, dual.TINY).astype(worth.dtype),
        epsilon=jnp.asarray(temperature, worth.dtype),
    )
    price = jnp.asarray(dual.prices(transport, jnp.zeros_like(transport.bound), BUDGET)) * unit
    return jnp.round(price).astype(problem.value.dtype) if problem.exact else price


def solve(
    value: ArrayLike,
    room: ArrayLike,
    *,
    outside: ArrayLike | None = None,
    task_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    temperature: float = TEMPERATURE,
) -> Matching:
    """Match tasks to servers for a high total value; arguments, result and errors as in `auction.solve`.

    Args:
        temperature: of the entropy, as a share of the range of values.

    Returns:
        `Matching`; its status is CONVERGED whatever the gap, which `dual_value` bounds.
    """
    checks.assignment(value, room, outside, task_mask, mask)
    checks.positive("temperature", temperature)
    return _solve(value, room, outside, task_mask, mask, temperature)


@jax.jit
def _solve(value, room, outside, task_mask, mask, temperature) -> Matching:
    problem = assignment(value, room, outside, task_mask, mask)
    price = prices(problem, temperature)
    server = greedy(problem, price)
    return matching(problem, server, price, problem.mask.size, finished=True)


def greedy(problem: Assignment, price: jax.Array) -> jax.Array:
    """[N] int32: the tasks choose one after the other, those first that would lose most by their second choice.

    Who stays out chooses once more among the places that are left, which then cost nothing.
    """
    net = problem.value - price
    best = jnp.maximum(net.max(axis=1), problem.outside)
    favourite = jnp.arange(problem.room.size) == jnp.argmax(net, axis=1)[:, None]
    second = jnp.where(favourite, jnp.minimum(net, problem.outside[:, None]), net).max(axis=1)
    order = jnp.argsort(second - best)
    net, value, outside, here = (of[order] for of in (net, problem.value, problem.outside, problem.mask))

    def choose(left, task):
        row, staying, waits = task
        row = jnp.where(left > 0, row, -problem.highest)
        best = jnp.argmax(row)
        takes = waits & (row[best] > staying)
        return left - (takes & (jnp.arange(left.size) == best)), jnp.where(takes, best, UNMATCHED).astype(jnp.int32)

    left, first = lax.scan(choose, problem.room, (net, outside, here))
    _, second = lax.scan(choose, left, (value, outside, here & (first == UNMATCHED)))
    return jnp.zeros_like(first).at[order].set(jnp.maximum(first, second))
