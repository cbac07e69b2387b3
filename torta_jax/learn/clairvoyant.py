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

from torta_jax.errors import require
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
    luck: jax.Array | None = None,
) -> tuple[Script, jax.Array]:
    """The best script found from what `policy` does, and the cost [steps] of each tried, in seconds per task; pure.

    Args:
        steps: scripts to try, of Adam with a cosine decay from `rate`; the first is what the policy does.
        luck: keys [n] in place of the world's own, which draw other counts, other lane times and others who are found
            when a slot begins; rates, prices and events stay the world's. The script is the best for the mean of their
            costs, and starts from the mean of what the policy does.

    Raises:
        InputError: for `LAST` slots or fewer, in which nothing is free.
    """
    require(num_slots > LAST, f"num_slots = {num_slots}: more than {LAST} are needed, the last {LAST} are not free")
    worlds = jax.vmap(lambda key: world.replace(key=key))(world.key[None] if luck is None else luck)
    each = jax.vmap(lambda world: script_of(world, physics, policy, num_slots).script)(worlds)
    script = Script(**vars(policy), script=each.mean(axis=0))
    free = jnp.arange(num_slots) < num_slots - LAST
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    def loss(table):
        scripted = script.replace(script=table)
        cost = partial(pathwise.cost, physics=physics, policy=scripted, objective=objective, num_slots=num_slots)
        return jax.vmap(cost)(worlds).mean()

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
