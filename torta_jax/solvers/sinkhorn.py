"""Entropic optimal transport between regions: fixed budget, certificates, shadow prices of capacity.

`capacitated` treats capacity as an upper bound, which is what lets prices steer; `balanced` is the paper's Eq 2, in
which every region gets its share of capacity and prices cannot act (docs/decisions.md).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn

from torta_jax.types import Status

TINY = 1e-9
"""Mass that stands for none: keeps logarithms finite where a region has no demand or no capacity."""

PLAIN_ITERS = 10
"""Iterations before over-relaxation, which can diverge from a cold start."""


class TransportPlan(struct.PyTreeNode):
    """A plan and its certificate."""

    routing: jax.Array  # [R, R] row-stochastic share of each origin's tasks per destination
    plan: jax.Array  # [R, R] mass sent, in the units of demand
    buffered: jax.Array  # [R] mass that no capacity was found for
    price: jax.Array  # [R] shadow price of capacity, in the units of cost, >= 0
    potential: jax.Array  # [R] dual of the columns, for a warm start
    marginal_error: jax.Array  # [] largest violated optimality condition, as a share of all demand
    capacity_violation: jax.Array  # [] largest excess over a capacity, as a share of all demand
    status: jax.Array  # [] types.Status


def capacitated(
    cost: jax.Array,
    demand: jax.Array,
    capacity: jax.Array,
    *,
    epsilon: float = 0.05,
    num_iters: int = 60,
    relaxation: float = 1.5,
    buffer_cost: float = 10.0,
    init: jax.Array | None = None,
    tolerance: float = 1e-3,
) -> TransportPlan:
    """Minimise <cost, P> - epsilon·entropy(P) subject to P·1 = demand, Pᵀ·1 <= capacity.

    The column dual alone is iterated: rows are a softmax, so they sum to one by construction, also where there is no
    demand. Over-relaxed coordinate ascent, projected on g <= 0 since capacity is an upper bound.

    Args:
        cost: [R, R] finite.
        demand: [R] >= 0.
        capacity: [R] >= 0, in the units of demand.
        epsilon: entropy weight as a share of the mean cost.
        num_iters: fixed budget, so that one slow instance does not hold a batch.
        relaxation: step length, 1 is plain Sinkhorn.
        buffer_cost: cost, in mean costs, of demand that finds no capacity.
        init: [R] `potential` of a similar problem.
        tolerance: marginal error below which the status is CONVERGED.

    Returns:
        `TransportPlan`; with overload the excess is `buffered` and the status INFEASIBLE.
    """
    total = jnp.maximum(demand.sum(), TINY)
    mass, bound = demand / total, jnp.maximum(capacity / total, TINY)
    scale = jnp.maximum(jnp.abs(cost).mean(), TINY)
    logits = -cost / (scale * epsilon)
    logits = jnp.concatenate([logits, jnp.full_like(logits[:, :1], -buffer_cost / epsilon)], axis=1)

    def shares(g):
        return jax.nn.softmax(logits + jnp.append(g, 0.0), axis=1)

    spill = mass.sum() - bound.sum()  # with overload the buffer is a column with a share of its own

    def update(k, g):
        step = jnp.where(k < PLAIN_ITERS, 1.0, relaxation)
        received = (mass[:, None] * shares(g)).sum(axis=0)
        rise = jnp.log(jnp.maximum(spill, TINY)) - jnp.log(received[-1] + TINY)
        change = jnp.log(bound) - jnp.log(received[:-1] + TINY) - jnp.where(spill > 0, rise, 0.0)
        return jnp.minimum(g + step * change, 0.0)

    potential = lax.fori_loop(0, num_iters, update, jnp.zeros_like(bound) if init is None else init)
    share = shares(potential)
    sent = (mass[:, None] * share[:, :-1]).sum(axis=0)
    excess = jnp.maximum(sent - bound, 0.0).max()
    slack = jnp.where(potential < -TINY, jnp.abs(sent - bound), jnp.maximum(sent - bound, 0.0))
    routed = share[:, :-1] / jnp.maximum(share[:, :-1].sum(axis=1, keepdims=True), TINY)
    return TransportPlan(
        routing=routed,
        plan=demand[:, None] * share[:, :-1],
        buffered=demand * share[:, -1],
        price=-potential * epsilon * scale,
        potential=potential,
        marginal_error=slack.max(),
        capacity_violation=excess,
        status=_status(slack.max(), tolerance, share, overload=mass.sum() > bound.sum() * (1 + tolerance)),
    )


def balanced(
    cost: jax.Array,
    demand: jax.Array,
    capacity: jax.Array,
    *,
    epsilon: float = 0.05,
    num_iters: int = 100,
    tolerance: float = 1e-3,
) -> TransportPlan:
    """Eq 2: both marginals fixed and normalised to one, by ott-jax, with a fixed number of iterations.

    Arguments and result as in `capacitated`; `plan` is scaled to the demand, `price` is that of the column marginal
    (its zero is arbitrary; here the cheapest region has zero).
    """
    total = jnp.maximum(demand.sum(), TINY)
    rows = jnp.maximum(demand / total, TINY)
    columns = jnp.maximum(capacity / jnp.maximum(capacity.sum(), TINY), TINY)
    rows, columns = rows / rows.sum(), columns / columns.sum()
    scale = jnp.maximum(jnp.abs(cost).mean(), TINY)
    solver = Sinkhorn(min_iterations=num_iters, max_iterations=num_iters, inner_iterations=num_iters)
    solution = solver(LinearProblem(Geometry(cost / scale, epsilon=epsilon), rows, columns))
    matrix = solution.matrix
    error = jnp.abs(matrix.sum(axis=0) - columns).max()
    potential = -solution.g / epsilon
    return TransportPlan(
        routing=matrix / jnp.maximum(matrix.sum(axis=1, keepdims=True), TINY),
        plan=matrix * total,
        buffered=jnp.zeros_like(rows),
        price=(potential - potential.min()) * epsilon * scale,
        potential=potential,
        marginal_error=error,
        capacity_violation=jnp.maximum(matrix.sum(axis=0) - columns, 0.0).max(),
        status=_status(error, tolerance, matrix, overload=jnp.asarray(False)),
    )


def _status(error, tolerance, plan, overload) -> jax.Array:
    status = jnp.where(error <= tolerance, Status.CONVERGED, Status.BUDGET_SPENT)
    status = jnp.where(overload, Status.INFEASIBLE, status)
    return jnp.where(jnp.isfinite(plan).all(), status, Status.NON_FINITE).astype(jnp.int32)
