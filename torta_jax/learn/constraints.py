"""Eq 5: nearness to the plan, calm in time, three rules for their multipliers; and the condition of Theorem 3."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.errors import unknown
from torta_jax.learn.ppo import Penalty, Step
from torta_jax.learn.routing import Params, State, by_plan
from torta_jax.schedulers.heads import Anchor, Head
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective

RULES = ("exponential", "stepwise", "pid")
"""Section V-B2's γ0·exp(α·violation); Algorithm 2's times 1.5 while the advantage condition is violated; and, not the
paper's, a PID-Lagrangian (Stooke, Achiam and Abbeel, ICML 2020), which also comes down again."""


PROBES = 16
"""Episodes at whose last states L_R and L_P are measured; the paper measures every ten."""


class Targets(struct.PyTreeNode):
    """Numbers of Eq 5; ε and s are the paper's, it gives no others."""

    deviation: float = 0.15  # ε, of ||A - P*||_F
    improvement: float = 2.5  # s, K0 over the policy's switching
    deviation_unit: float = 0.15  # ε0
    improvement_unit: float = 2.5  # s0
    gamma: float = 0.1  # γ0 and δ0, the multipliers at the start
    delta: float = 0.1
    growth: float = 2.0  # α_γ and α_δ of the exponential rule
    proportional: float = 0.5  # of the PID rule
    integral: float = 0.05
    derivative: float = 0.1
    k0_weight: float = 0.1  # of the newest rollout in the moving average of K0
    objective: Objective = Objective()  # α and β of Eq 1


class Multipliers(struct.PyTreeNode):
    """What is carried from update to update."""

    gamma: jax.Array
    delta: jax.Array
    k0: jax.Array  # switching of the reactive plan, moving average
    sums: jax.Array  # [2] violations so far, of the PID rule
    last: jax.Array  # [2] violations of the last update


def known(rule: str) -> None:
    """Raise `InputError` for an unknown rule, with the nearest one."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)


def penalty(head: Head, params: Params, targets: Targets, rule: str = "exponential") -> Penalty:
    """The terms of Eq 5 for `ppo.Learner`; what they and Theorem 3 say is logged.

    The loss is of the policy without luck. What is logged, and moves the multipliers, is of the matrices drawn: their
    noise counts as deviation and as switching.

    Args:
        params: of the environment, where L_R and L_P are measured in every update.

    Raises:
        InputError: for an unknown rule, with the nearest one.
    """
    known(rule)

    def loss(multipliers: Multipliers, raw: jax.Array, step: Step) -> jax.Array:
        plan, last = step.info["plan"], step.info["last"]
        matrix = jax.vmap(lambda raw, plan, last: head.matrix(head.mean(raw), Anchor(plan, last)))(raw, plan, last)
        farthest = _norm(matrix - plan).max()
        improvement = multipliers.k0 / jnp.maximum(((matrix - last) ** 2).sum(axis=(-2, -1)).mean(), 1e-9)
        near = jnp.maximum((farthest - targets.deviation) / targets.deviation_unit, 0.0)
        calm = jnp.maximum((targets.improvement - improvement) / targets.improvement_unit, 0.0)
        return multipliers.gamma * near + multipliers.delta * calm

    def measure(multipliers: Multipliers, steps: Step, states: State) -> dict[str, jax.Array]:
        info = steps.info
        slopes = lipschitz(jax.tree.map(lambda x: x[:PROBES], states), params)
        fresh = jnp.where(multipliers.k0 > 0, targets.k0_weight, 1.0)
        k0 = multipliers.k0 + fresh * (info["plan_change"].mean() - multipliers.k0)
        deviation, switching = info["deviation"].mean(), info["change"].mean()
        improvement = k0 / jnp.maximum(switching, 1e-9)
        return {
            "deviation": deviation,
            "farthest": info["deviation"].max(),
            "switching": switching,
            "k0": k0,
            "improvement": improvement,
            "slope_response_s": slopes.response_s,
            "slope_power_usd": slopes.power_usd,
            "advantage": advantage(improvement, deviation, k0, slopes, targets.objective),
            "queue": info["queue"].mean(),
            "cost": info["cost"].mean(),
        }

    def update(multipliers: Multipliers, seen: dict[str, jax.Array]) -> Multipliers:
        broken = jnp.stack([seen["farthest"] - targets.deviation, targets.improvement - seen["improvement"]])
        sums = jnp.maximum(multipliers.sums + broken, 0.0)
        start = jnp.asarray([targets.gamma, targets.delta])
        if rule == "exponential":
            new = start * jnp.exp(targets.growth * jnp.clip(broken, 0.0, 5.0))
        elif rule == "stepwise":
            old = jnp.stack([multipliers.gamma, multipliers.delta])
            new = jnp.minimum(jnp.where(seen["advantage"] > 0, old, 1.5 * old), 1e3)
        else:
            change = jnp.maximum(broken - multipliers.last, 0.0)
            terms = targets.proportional * broken + targets.integral * sums + targets.derivative * change
            new = jnp.maximum(terms, 0.0)
        return multipliers.replace(gamma=new[0], delta=new[1], k0=seen["k0"], sums=sums, last=broken)

    nothing = jnp.zeros(2)
    gamma, delta = jnp.asarray(targets.gamma, float), jnp.asarray(targets.delta, float)
    begin = Multipliers(gamma, delta, k0=jnp.zeros(()), sums=nothing, last=nothing)
    return Penalty(begin, loss, measure, update)


class Slopes(NamedTuple):
    """Lipschitz constants in the routing matrix, per unit of ||A||_F."""

    response_s: jax.Array  # L_R, seconds per task
    power_usd: jax.Array  # L_P, dollars per task


def advantage(improvement, deviation, k0, slopes: Slopes, objective: Objective) -> jax.Array:
    """By how much the condition of Theorem 3 holds: (1 - 1/s)/ε - (L_R + β·L_P)/(α·K0); positive where it does.

    Args:
        improvement, deviation, k0: s, ε and K0, measured.
        objective: has α and β of Eq 1.
    """
    gain = (1 - 1 / jnp.maximum(improvement, 1e-9)) / jnp.maximum(deviation, 1e-9)
    slope = slopes.response_s + objective.power_s_per_usd * slopes.power_usd
    return gain - slope / (objective.switching_weight * jnp.maximum(k0, 1e-9))


def lipschitz(states: State, params: Params, step: float = 0.01) -> Slopes:
    """The largest finite differences over some states [N]: rows towards corners, by the steepest way found.

    A random direction would be nearly orthogonal to the slope. The slope only chooses where to look, so that a true
    constant can but be larger.

    Args:
        step: the share of the way to its corner that the fastest row goes.
    """
    policy = by_plan(params.policy)

    def one(state):
        here = state.flows.matrix

        def measured(matrix):
            _, slot = fluid.run_slot(state.world, params.physics, policy, state.flows, matrix=matrix)
            return jnp.stack([slot.response_s, slot.power_cost_usd]) / jnp.maximum(slot.arrived, 1.0)

        slopes = jax.jacrev(measured)(here)
        moved = jax.vmap(lambda slope: steepest(here, slope, step))(jnp.concatenate([slopes, -slopes]))
        change = jnp.abs(jax.vmap(measured)(moved) - measured(here)).T  # [2, 4]
        return (change / jnp.maximum(_norm(moved - here), 1e-9)).max(axis=1)

    response, power = jax.vmap(one)(states).T
    return Slopes(response.max(), power.max())


def steepest(matrix: jax.Array, slope: jax.Array, step: float) -> jax.Array:
    """A matrix near [R, R], along the direction in which a linear function of this slope [R, R] grows fastest.

    Of those directions in which every row goes towards one of its corners: each to that by which it gains most for the
    way, as fast as it gains by it.
    """
    slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
    corners = jnp.eye(slope.shape[-1])
    away = ((corners - matrix[:, None]) ** 2).sum(axis=-1)  # [R, R] squared distance of a row to a corner
    gain = (slope - (slope * matrix).sum(axis=-1, keepdims=True)) / jnp.sqrt(jnp.maximum(away, 1e-9))
    best = gain.argmax(axis=-1)
    towards = corners[best] - matrix
    speed = (slope * towards).sum(axis=-1) / jnp.maximum((towards**2).sum(axis=-1), 1e-9)
    speed = speed / jnp.maximum(speed.max(), 1e-30)
    return matrix + step * speed[:, None] * towards


def _norm(matrix: Any) -> jax.Array:
    # An exact zero has no slope.
    return jnp.sqrt(jnp.maximum((matrix**2).sum(axis=(-2, -1)), 1e-12))
