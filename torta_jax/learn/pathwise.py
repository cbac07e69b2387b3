"""Training through the fluid model: the slope of what users pay for, in the weights of a policy (analytic gradient)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from torta_jax.cores import cores
from torta_jax.learn.worlds import HARD, Range, random_world
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.workload import draws

WORLDS, PARAMETERS = range(2)
"""Streams of random numbers."""


BLOCK = 8
"""Worlds that a thread takes at once."""


class Sizes(NamedTuple):
    """What a compiled update is made for."""

    num_worlds: int = 32
    num_slots: int = 60
    num_regions: int = 12
    num_servers: int = 24


class Numbers(struct.PyTreeNode):
    """Traced, so that a sweep over them is one `vmap`."""

    learning_rate: float = 1e-3
    warmup: float = 20.0  # updates
    updates: float = 400.0  # cosine decay to zero over so many
    max_grad_norm: float = 10.0  # of the slope of one world's logarithm of the cost


class Training(struct.PyTreeNode):
    """Everything that training carries from update to update."""

    parameters: Any
    optimiser: Any
    updates: jax.Array  # [] int32
    key: jax.Array


def cost(
    world: World, physics: Physics, policy, objective: Objective, num_slots: int, *, open_loop: bool = True
) -> jax.Array:
    """[] seconds per task of a policy in a world, by the fluid model.

    Args:
        open_loop: of its slope, see `fluid.run_slot`. Where later decisions are the best, it makes no difference how
            they would answer another one now (envelope theorem); where they are not, that is most of the noise.
    """

    begin = fluid.reset(world, physics, policy)
    return objective.cost(totals(world, physics, policy, begin, num_slots, open_loop=open_loop))


def totals(
    world: World, physics: Physics, policy, begin: fluid.Flows, num_slots: int, *, open_loop: bool = True
) -> fluid.FlowMetrics:
    """Of the next slots, as `Objective.cost` takes them. After the last slot of a world all stays as it was there."""

    @jax.checkpoint
    def step(flows, _):
        return fluid.run_slot(world, physics, policy, flows, open_loop=open_loop)

    _, slots = lax.scan(step, begin, None, length=num_slots)
    total = jax.tree.map(lambda x: x.sum(axis=0), slots)
    return total.replace(switching_cost=total.switching_cost / num_slots)


def flat_unless_finite(slope: Any) -> Any:
    """A slope, or zeros: Adam would never forget one that is not finite."""
    known = jnp.isfinite(optax.tree.norm(slope))
    return jax.tree.map(lambda each: jnp.where(known, each, 0.0), slope)


class Learner(NamedTuple):
    """Pathwise training of one kind of policy; every method is pure."""

    policy: Any  # a `Learned` whose network is trained
    sizes: Sizes = Sizes()
    kinds: tuple[Range, ...] = (HARD,)  # worlds are of each kind in turn
    objective: Objective = Objective()
    physics: Physics = Physics()

    def init(self, key: jax.Array) -> Training:
        """The state before the first update."""
        parameters = self.policy.fresh(jax.random.fold_in(key, PARAMETERS))
        return Training(parameters, ADAM.init(parameters), jnp.int32(0), key)

    def worlds(self, key: jax.Array, which: jax.Array) -> World:
        """The worlds of some numbers [n], decided by key and number alone; kinds take turns from a drawn one on."""
        keys = draws.fold_each(key, which)
        ends = jax.tree.map(lambda *each: jnp.stack(each), *map(floats, self.kinds))
        turn = (which + jax.random.bits(key, dtype=jnp.uint8)) % len(self.kinds)
        kinds = jax.tree.map(lambda x: x[turn], ends)
        make = lambda key, kind: random_world(  # noqa: E731
            key, kind, self.sizes.num_regions, self.sizes.num_servers, self.sizes.num_slots
        )
        return jax.vmap(make)(keys, kinds)

    def slopes(self, state: Training, which: jax.Array) -> tuple[jax.Array, Any]:
        """Seconds per task [n] in the next update's worlds of some numbers [n], and their slopes in the parameters."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, WORLDS), state.updates)
        slope = jax.value_and_grad(self.cost)
        return jax.vmap(slope, in_axes=(None, 0))(state.parameters, self.worlds(key, which))

    def cost(self, parameters: Any, world: World) -> jax.Array:
        """[] seconds per task."""
        policy = self.policy.replace(parameters=parameters)
        return cost(world, self.physics, policy, self.objective, self.sizes.num_slots)

    def improve(
        self, state: Training, numbers: Numbers, values: jax.Array, slopes: Any
    ) -> tuple[Training, dict[str, jax.Array]]:
        """One step, from the costs and slopes of all worlds; the second part is what to log.

        A world whose slope is not finite counts as flat, and is counted.
        """
        # Of the logarithm: a per cent counts the same in a world of short tasks and in one of long ones.
        slopes = jax.tree.map(lambda g: g / values.reshape(-1, *[1] * (g.ndim - 1)), slopes)
        norms = jax.vmap(optax.tree.norm)(slopes)
        known = jnp.isfinite(norms)
        slopes = jax.tree.map(lambda g: jnp.where(known.reshape(-1, *[1] * (g.ndim - 1)), g, 0.0), slopes)
        # World by world: in a few the queue is about to run over, and their slope would be the only one.
        norms = jnp.where(known, norms, 0.0)
        weight = jnp.minimum(1, numbers.max_grad_norm / jnp.maximum(norms, 1e-12)) / norms.size
        slope = jax.tree.map(lambda g: jnp.tensordot(weight, g, axes=1), slopes)
        change, optimiser = ADAM.update(slope, state.optimiser)
        done = state.updates / numbers.updates
        rate = numbers.learning_rate * jnp.minimum((state.updates + 1) / numbers.warmup, 1.0)
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
        parameters = jax.tree.map(lambda w, c: w - rate * c, state.parameters, change)
        state = Training(parameters, optimiser, state.updates + 1, state.key)
        log = {"cost": values.mean(), "mean_log_cost": jnp.log(values).mean(), "gradient_norm": jnp.median(norms)}
        log |= {"without_slope": (~known).sum(), "weights_norm": optax.tree.norm(parameters), "learning_rate": rate}
        return state, log

    def update(self, state: Training, numbers: Numbers) -> tuple[Training, dict[str, jax.Array]]:
        """One step on fresh worlds; the second part is what to log."""
        return self.improve(state, numbers, *self.slopes(state, jnp.arange(self.sizes.num_worlds)))


def by_cores(learner: Learner) -> Callable[[Training, Numbers], tuple[Training, dict[str, jax.Array]]]:
    """`learner.update`, not pure: on a CPU a thread for each core takes the slopes of `BLOCK` worlds at a time.

    One program for every block, so that the bits are the same on any number of cores.
    """
    every = learner.sizes.num_worlds
    if jax.local_devices()[0].platform != "cpu":
        return jax.jit(learner.update)
    size = max(size for size in range(1, min(BLOCK, every) + 1) if every % size == 0)
    slopes, threads = jax.jit(learner.slopes), ThreadPoolExecutor(cores())

    @jax.jit
    def improve(state, numbers, parts):
        return learner.improve(state, numbers, *jax.tree.map(lambda *each: jnp.concatenate(each), *parts))

    def update(state, numbers):
        block = lambda first: jax.block_until_ready(slopes(state, jnp.arange(first, first + size)))  # noqa: E731
        return improve(state, numbers, list(threads.map(block, range(0, every, size))))

    return update


def floats(kind: Range) -> Range:
    return jax.tree.map(lambda x: jnp.asarray(x, float), kind)


ADAM = optax.scale_by_adam()
