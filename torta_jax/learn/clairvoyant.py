"""A bound by foresight: the corrections of every slot and region, optimised in one world whose future is known.

What is optimised are the very numbers that a `Learned` policy chooses, one set per slot, through the fluid model and
its slopes. No policy of that kind does better in the fluid model than the best such script; ours is a local optimum.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from torta_jax.learn import pathwise
from torta_jax.schedulers.features import Surprise
from torta_jax.schedulers.learned import LARGEST, Learned
from torta_jax.schedulers.rules import Outlook
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.observe import Observation
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics

LAST = 8
"""Slots at the end that keep the corrections they had: else the fleet would be run down where nothing is charged."""

WITHIN = 0.999
"""Of `LARGEST`: corrections at the limit have no slope."""


class Script(Learned):
    """Corrections written down beforehand."""

    script: Any = None  # [T, R, len(CORRECTIONS)], before they are limited

    def correct(self, outlook: Outlook, surprise: Surprise, observation: Observation) -> jax.Array:
        """Those of the slot."""
        del outlook, surprise
        return self.script[observation.slot]


def script_of(world: World, physics: Physics, policy: Learned, num_slots: int) -> Script:
    """What a policy does in a world, written down."""

    def step(flows, _):
        flows, _ = fluid.run_slot(world, physics, policy, flows)
        return flows, flows.policy.corrections

    _, made = lax.scan(step, fluid.reset(world, physics, policy), None, num_slots)
    script = LARGEST * jnp.arctanh(jnp.clip(made / LARGEST, -WITHIN, WITHIN))
    return Script(**vars(policy), script=script)


def optimise(
    world: World,
    policy: Learned,
    num_slots: int,
    *,
    objective: Objective = Objective(),  # noqa: B008
    physics: Physics = Physics(),  # noqa: B008
    steps: int = 200,
    rate: float = 0.05,
) -> tuple[Script, jax.Array]:
    """The best script found from what `policy` does, and the cost [steps] of each that was tried; pure, for vmap.

    Args:
        steps: scripts to try, of Adam with a cosine decay from `rate`; the first is what the policy does.
    """
    script = script_of(world, physics, policy, num_slots)
    free = jnp.arange(num_slots) < num_slots - LAST
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))
    cost = partial(pathwise.cost, world, physics, objective=objective, num_slots=num_slots)

    def loss(table):
        return cost(script.replace(script=table))

    def step(carry, _):
        table, state, best, least = carry
        value, slope = jax.value_and_grad(loss)(table)
        better = value < least
        best, least = jnp.where(better, table, best), jnp.minimum(value, least)
        slope = jnp.where(free[:, None, None], slope, 0.0)
        slope = jnp.where(jnp.isfinite(slope).all(), slope, 0.0)  # Adam would never forget one
        change, state = optimiser.update(slope, state)
        return (table + change, state, best, least), value

    start = (script.script, optimiser.init(script.script), script.script, jnp.inf)
    (_, _, best, _), values = lax.scan(step, start, None, steps)
    return script.replace(script=best), values
