"""Foresight: the corrections of every slot and region, optimised in one world whose future is known.

What is optimised are the very numbers that a `Learned` policy chooses, one set per slot, through the fluid model and
its slopes. No policy of that kind does better in the fluid model than the best such script; the one found here is the
best of those tried, so that it gains no more than could be gained.
"""

from collections.abc import Sequence
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
from torta_jax.workload import draws

LAST = 8
"""Slots at the end that keep the corrections they had: else the fleet would be run down where nothing is charged."""

SPANS = (512, 64, 8, 1)
"""Slots that are moved together: a script is what it began as and a move for every block of so many slots, added up.
What is good for hours is found in fewer steps where those hours have a number in common."""

OTHER_LUCK = 32
"""Stream of random numbers, of keys of other draws; the streams of a world's own draws have smaller numbers."""

DRAWS = 8
"""Of luck: without knowing it a script begins as the mean of what the policy does in so many."""

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


def moved(script: jax.Array, moves: Sequence[jax.Array]) -> jax.Array:
    """A script [T, R, n] after moves [blocks, R, n] of every length of `SPANS`; the end stays."""
    free = script.shape[0] - LAST
    for move, span in zip(moves, SPANS, strict=True):
        script = script.at[:free].add(jnp.repeat(move, span, axis=0)[:free])
    return script


def optimise(
    world: World,
    policy: Learned,
    num_slots: int,
    *,
    objective: Objective = Objective(),  # noqa: B008
    physics: Physics = Physics(),  # noqa: B008
    steps: int = 150,
    rate: float = 0.05,
    luck: bool = True,
) -> tuple[Script, jax.Array]:
    """A script from what `policy` does, and the cost [steps] of each that was tried, in seconds per task; pure.

    Args:
        steps: scripts to try; the first is what the policy does, the best is returned.
        rate: of Adam, at first (cosine decay), for the moves of each of `SPANS`.
        luck: whether counts, lane times and who is found when a slot begins are known like rates, prices and events. If
            not, every step is in another draw of them, and the script is what the last step leaves.

    Raises:
        InputError: for `LAST` slots or fewer, in which nothing is free.
    """
    require(num_slots > LAST, f"num_slots = {num_slots}: more than {LAST} are needed, the last {LAST} are not free")
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def drawn(number):
        return world if luck else world.replace(key=draws.fold(world.key, OTHER_LUCK, number))

    others = steps + jnp.arange(1 if luck else DRAWS)
    each = jax.vmap(lambda number: script_of(drawn(number), physics, policy, num_slots).script)(others)
    script = Script(**vars(policy), script=each.mean(axis=0))

    def loss(moves, number):
        scripted = script.replace(script=moved(script.script, moves))
        return pathwise.cost(drawn(number), physics, scripted, objective, num_slots)

    def step(carry, number):
        moves, state, best, least = carry
        value, slope = jax.value_and_grad(loss)(moves, number)
        best = jax.tree.map(partial(jnp.where, value < least), moves, best)
        change, state = adam.update(pathwise.flat_unless_finite(slope), state)
        return (jax.tree.map(jnp.add, moves, change), state, best, jnp.fmin(value, least)), value

    still = [jnp.zeros((-(-num_slots // span), *script.script.shape[1:])) for span in SPANS]
    begin = (still, adam.init(still), still, jnp.inf)
    (last, _, best, _), costs = lax.scan(step, begin, jnp.arange(steps))
    return script.replace(script=moved(script.script, best if luck else last)), costs
