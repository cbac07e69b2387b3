"""Entropic optimal transport: fixed budget, certificates, shadow prices of capacity, gradients.

`capacitated` treats capacity as an upper bound, which is what lets prices steer; `balanced` is the paper's Eq 2, in
which every region gets its share of capacity and prices cannot act (docs/decisions.md).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import ArrayLike

from torta_jax.errors import require, unknown
from torta_jax.solvers import checks, dual
from torta_jax.types import Status

BACKENDS = ("own", "ott")

SCALING_ITERS = 40

NEWTON_ITERS = 8
"""Newton steps where the temperature needs no annealing; which bounds are met takes a few to find out."""

ANNEALING = 13
"""More of them for each factor of five by which the temperature is below `dual.WARMEST`."""

COLDEST = 0.003
"""A temperature that is traced may be as low as this."""

MASKED_ITERS = 60
"""Newton steps at least where pairs are forbidden: what may reach few columns finds out last who is full."""

OTT_ITERS = 100

FLOOR = 1e-9
"""Mass that stands for none in ott-jax, whose gradients do not bear a zero."""


class TransportPlan(struct.PyTreeNode):
    """A plan and its certificate.

    No plan that keeps to the capacities, with demand left at the buffer's cost, is worth less than `lower_bound`; of a
    `balanced` one, no plan that gives every column its share.
    """

    routing: jax.Array  # [N, C] share of each row's mass per column; rows sum to one, or to zero if all is forbidden
    plan: jax.Array  # [N, C] mass sent, in the units of demand
    buffered: jax.Array  # [N] mass that no capacity was found for
    price: jax.Array  # [C] shadow price of capacity, in the units of cost, >= 0; a start for a similar problem
    value: jax.Array  # [] cost of the plan, buffered mass included
    objective: jax.Array  # [] value - epsilon·entropy at the optimum; its gradient costs next to nothing
    lower_bound: jax.Array  # [] of the value of any plan without entropy; minus infinity where NON_FINITE
    marginal_error: jax.Array  # [] by how much optimality is violated, over all columns, as a share of all demand
    capacity_violation: jax.Array  # [] what is sent beyond capacities, as a share of all demand
    status: jax.Array  # [] types.Status


class Scaled(struct.PyTreeNode):
    """A transport problem in units of its own: total mass one, mean cost one, least cost of every row zero."""

    problem: dual.Problem
    mask: jax.Array  # [N, C] bool, pairs that are allowed
    cost: jax.Array  # [N, C + 1] in the caller's units; zero where nothing can go, the last column outside
    least: jax.Array  # [N] what was taken off every row, in mean costs
    total: jax.Array  # [] the caller's units of mass
    unit: jax.Array  # [] mean cost
    valid: jax.Array  # [] bool: what was given is finite, demand and capacity at least zero


def capacitated(
    cost: ArrayLike,
    demand: ArrayLike,
    capacity: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    epsilon: ArrayLike = 0.05,
    buffer_cost: ArrayLike = 10.0,
    init: ArrayLike | None = None,
    scaling_iters: int = SCALING_ITERS,
    newton_iters: int | None = None,
    tolerance: float = 1e-3,
) -> TransportPlan:
    """Minimise <cost, P> - epsilon·entropy(P) subject to P·1 = demand, Pᵀ·1 <= capacity.

    Solved in the prices of capacity alone (`solvers.dual`): rows are a softmax, so they sum to one by construction,
    also where there is no demand.

    Args:
        cost: [N, C].
        demand: [N] >= 0.
        capacity: [C] >= 0, in the units of demand.
        mask: [N, C] bool, pairs that are allowed; forbidden ones may have any cost. Regions that are padding have a
            row and a column of False.
        epsilon: entropy weight as a share of the mean cost of pairs that `mask` allows.
        buffer_cost: what it costs to leave demand in the buffer, in mean costs above the dearest pair.
        init: [C] `price` of a similar problem.
        scaling_iters, newton_iters: fixed budget, so that one slow instance does not hold a batch. By default Newton
            steps follow from epsilon: 8 from 0.05 on, 21 to 0.01, 34 to 0.002 and if it is traced; with a mask 60.
        tolerance: marginal error up to which the plan has converged.

    Returns:
        `TransportPlan`, differentiable in cost, demand and capacity as if converged. Status: BUDGET_SPENT where the
        plan has not converged, else INFEASIBLE where demand found no capacity and is `buffered`, else CONVERGED;
        NON_FINITE where a trace hid values that are not allowed.

    Raises:
        InputError: shapes that do not match; outside a trace also values that are not allowed.
    """
    checks.transport(cost, demand, capacity, mask, init)
    checks.positive("buffer_cost", buffer_cost)
    checks.positive("tolerance", tolerance)
    budget = _budget(False, epsilon, scaling_iters, newton_iters, mask is not None)
    return _solve(cost, demand, capacity, mask, epsilon, buffer_cost, init, tolerance, budget)


def balanced(
    cost: ArrayLike,
    demand: ArrayLike,
    capacity: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    epsilon: ArrayLike = 0.05,
    init: ArrayLike | None = None,
    scaling_iters: int = SCALING_ITERS,
    newton_iters: int | None = None,
    tolerance: float = 1e-3,
    backend: str = "own",
) -> TransportPlan:
    """Eq 2: every column receives its share of capacity, however much there is.

    Arguments, result and errors as in `capacitated`, with capacity scaled to the demand; the cheapest region's price
    is zero, and nothing is buffered. Where a mask lets no plan meet the shares, none converges (BUDGET_SPENT).

    Args:
        backend: "own", or "ott" for ott-jax with a fixed number of iterations (no mask, no start).
    """
    checks.transport(cost, demand, capacity, mask, init)
    checks.positive("tolerance", tolerance)
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    require(backend == "own" or (mask is None and init is None), "backend 'ott' takes no mask and no init")
    capacity = jnp.asarray(capacity)
    shares = capacity / jnp.where(capacity.sum() > 0, capacity.sum(), 1.0) * jnp.asarray(demand).sum()
    budget = _budget(True, epsilon, scaling_iters, newton_iters, mask is not None)
    return _solve(cost, demand, shares, mask, epsilon, dual.NOWHERE, init, tolerance, budget, backend)


@partial(jax.jit, static_argnames=("budget", "backend"))
def _solve(cost, demand, capacity, mask, epsilon, buffer_cost, init, tolerance, budget, backend="own") -> TransportPlan:
    scaled = _scaled(cost, demand, capacity, mask, epsilon, buffer_cost)
    if backend == "ott":
        price = _prices_by_ott(scaled)
    else:
        start = jnp.zeros_like(scaled.problem.bound) if init is None else _start(scaled, init)
        price = jnp.asarray(dual.prices(scaled.problem, start, budget))
    if budget.tight:
        there = capacity > 0
        price = jnp.where(there, price - jnp.where(there, price, jnp.where(there.any(), jnp.inf, 0.0)).min(), 0.0)
    return _result(scaled, price, budget, tolerance)


def _budget(tight: bool, epsilon, scaling_iters: int, newton_iters: int | None, masked: bool) -> dual.Budget:
    """Few different ones, since each is a program of its own."""
    checks.positive("epsilon", epsilon)
    checks.count("scaling_iters", scaling_iters)
    if newton_iters is None:
        coldest = float(epsilon) if checks.known(epsilon) else COLDEST
        fives = math.ceil(math.log(max(dual.WARMEST / coldest, 1.0), 5) - 1e-6)
        newton_iters = max(NEWTON_ITERS + ANNEALING * fives, MASKED_ITERS if masked else 0)
    checks.count("newton_iters", newton_iters)
    return dual.Budget(tight, scaling_iters, newton_iters)


def _start(scaled: Scaled, init) -> jax.Array:
    """[C] prices to start from, none higher than a pair can be dearer than another."""
    cost = scaled.problem.cost
    highest = jnp.where(cost < dual.NOWHERE, cost, 0.0).max()
    return lax.stop_gradient(jnp.nan_to_num(jnp.clip(jnp.asarray(init) / scaled.unit, 0.0, highest)))


def _scaled(cost, demand, capacity, mask, epsilon, buffer_cost) -> Scaled:
    cost, demand, capacity = (jnp.asarray(x) for x in (cost, demand, capacity))
    mask = jnp.ones(cost.shape, bool) if mask is None else jnp.asarray(mask, bool)
    cost = jnp.where(mask, cost, 0.0)
    bounds = jnp.append(demand, capacity)
    valid = jnp.isfinite(cost).all() & ((bounds >= 0) & jnp.isfinite(bounds)).all()
    total = jnp.where(demand.sum() > 0, demand.sum(), 1.0)
    unit = jnp.abs(cost).sum() / jnp.maximum(mask.sum(), 1)
    unit = jnp.where(unit > 0, unit, 1.0)
    dearest = jnp.where(mask, cost, cost.min()).max()
    outside = jnp.full_like(cost[:, :1], 1.0) * (dearest + buffer_cost * unit)
    every = jnp.append(cost, outside, axis=1)
    there = jnp.append(mask & (capacity > 0), jnp.ones_like(mask[:, :1]), axis=1)
    nowhere = dual.NOWHERE * jnp.where(jnp.append(mask, mask[:, :1], axis=1), 1.5, 2.0)
    least = lax.stop_gradient(jnp.where(there, every, jnp.inf).min(axis=1) / unit)
    problem = dual.Problem(
        cost=jnp.where(there, every / unit - least[:, None], nowhere).T,
        mass=demand / total,
        # More than all demand is as good as twice that, and finite.
        bound=jnp.where(capacity > 0, jnp.minimum(capacity / total, 2.0), dual.TINY),
        epsilon=jnp.asarray(epsilon, cost.dtype),
    )
    return Scaled(problem, mask, jnp.where(there, every, 0.0), least, total, unit, valid)


def _result(scaled: Scaled, price: jax.Array, budget: dual.Budget, tolerance) -> TransportPlan:
    problem, total, unit = scaled.problem, scaled.total, scaled.unit
    share, _ = dual.shares(problem, price, problem.epsilon)
    sent = dual.dot(share, problem.mass)[:-1]
    best = lax.stop_gradient(price)
    at_optimum = dual.dual_value(problem, best, dual.shares(problem, best, problem.epsilon)[1], problem.epsilon)
    taken_off = (problem.mass * scaled.least).sum()
    bound = dual.linear_value(problem, price)
    _, error = dual.conditions(problem, price, sent, budget)
    mass = (problem.mass * share).T
    value, lower_bound = total * (mass * scaled.cost).sum(), (bound + taken_off) * unit * total
    finite = scaled.valid & jnp.isfinite(mass).all() & jnp.isfinite(value) & jnp.isfinite(lower_bound)
    return TransportPlan(
        routing=_routing(scaled, price),
        plan=total * mass[:, :-1],
        buffered=total * mass[:, -1],
        price=price * unit,
        value=value,
        objective=(at_optimum * problem.epsilon + taken_off) * unit * total,
        lower_bound=jnp.where(finite, lower_bound, -jnp.inf),
        marginal_error=error,
        capacity_violation=dual.total(jnp.maximum(sent - problem.bound, 0.0)),
        status=_status(finite, error, mass, tolerance),
    )


def _routing(scaled: Scaled, price: jax.Array) -> jax.Array:
    """[N, C] where a row's mass goes if it goes anywhere: at these prices, whatever the chance to stay in the buffer.

    Where no column that is allowed has capacity, it is spread over those all the same.
    """
    logits = -(scaled.problem.cost[:-1].T + price) / scaled.problem.epsilon
    return jax.nn.softmax(logits, axis=1) * scaled.mask.any(axis=1, keepdims=True)


def _status(finite, error, mass, tolerance) -> jax.Array:
    status = jnp.where(mass[:, -1].sum() > tolerance, Status.INFEASIBLE, Status.CONVERGED)
    status = jnp.where(error <= tolerance, status, Status.BUDGET_SPENT)
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)


def _prices_by_ott(scaled: Scaled) -> jax.Array:
    """[C] in mean costs. Its matrix is not used: rows spread by these prices sum to one exactly."""
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    problem = scaled.problem
    rows, columns = (x / x.sum() for x in (jnp.maximum(problem.mass, FLOOR), jnp.maximum(problem.bound, FLOOR)))
    solver = Sinkhorn(min_iterations=OTT_ITERS, max_iterations=OTT_ITERS, inner_iterations=OTT_ITERS)
    geometry = Geometry(problem.cost[:-1].T / problem.epsilon, epsilon=1.0)
    return -problem.epsilon * solver(LinearProblem(geometry, rows, columns)).g
