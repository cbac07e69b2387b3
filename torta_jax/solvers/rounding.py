"""From a plan that nearly keeps to its bounds to one that does, exactly."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from torta_jax.solvers import checks


def feasible(plan: ArrayLike, demand: ArrayLike, capacity: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    """The plan with no row above its demand and no column above its capacity.

    Rows and columns that are too large shrink; what is then missing goes to capacity that is left, in proportion to
    both (algorithm 2 of Altschuler, Weed and Rigollet 2017). Without a mask all that fits is then sent, and if
    capacities sum to the demand both are met exactly. The plan changes, in sum, by at most twice what it violated.

    Args:
        plan: [N, C] >= 0, as `sinkhorn.TransportPlan.plan`.
        demand: [N] >= 0.
        capacity: [C] >= 0.
        mask: [N, C] bool, pairs that are allowed; what would go to others stays unsent.

    Returns:
        [N, C]; demand minus its row sums is what no capacity was found for.

    Raises:
        InputError: shapes that do not match; outside a trace also values that are not allowed.
    """
    checks.table("plan", plan, demand, capacity, mask, low=0)
    plan, demand, capacity = jnp.asarray(plan), jnp.asarray(demand), jnp.asarray(capacity)
    plan = plan if mask is None else jnp.where(mask, plan, 0.0)
    plan = plan * _shrunk(plan.sum(axis=1), demand)[:, None]
    plan = plan * _shrunk(plan.sum(axis=0), capacity)
    missing = jnp.maximum(demand - plan.sum(axis=1), 0.0)
    left = jnp.maximum(capacity - plan.sum(axis=0), 0.0)
    most = jnp.maximum(missing.sum(), left.sum())
    filling = missing[:, None] * (left / jnp.where(most > 0, most, 1.0))
    return plan + (filling if mask is None else jnp.where(mask, filling, 0.0))


def _shrunk(total: jax.Array, most: jax.Array) -> jax.Array:
    """Factors that bring totals down to `most`, with a derivative also where both are zero."""
    return jnp.where(total > most, most / jnp.where(total > 0, total, 1.0), 1.0)
