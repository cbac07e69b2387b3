"""How much of the gap to foresight needs the future: a planner that knows it, and the same one that does not.

    python -m experiments.planner results/blind/policy.npz results/seed0/policy.npz

The planner (model predictive control, Mayne et al. 2000) has the fluid model itself, from its very state. Every other
slot it moves the network's corrections of the coming slots along the model's slopes, in draws of counts and lane times
that are none of the world's, and goes on from the moves it made last. Told what is to come, it plans with the world's
rates and prices. Without, it has what a policy has, the counts so far, and besides what no policy is told: the
workload's mean at every hour, how noisy it is and for how long noise lasts. From there it draws rates; prices stay as
they are. What it then gains less is worth of knowing the future; what it gains more than the network, of planning.
Unseen clusters, in the fluid model.
"""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import lax
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from experiments.intervals import relative, share_of_gap, with_interval
from torta_jax.errors import require
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.learned import CORRECTIONS, Learned
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload import draws, scenario

HORIZON, FREE, EVERY = 24, 12, 2
"""Slots that are looked at, the first of them whose corrections are moved, and slots between two plans."""

SPANS = (12, 4, 1)
"""Slots that are moved together, as for `learn.clairvoyant.SPANS`."""

STEPS, RATE, DRAWS = 10, 0.03, 6
"""Of Adam for each plan, every step in so many other draws. With 20 steps in 8 draws the planner gains no more."""

IMAGINED, NOISE = 40, 41
"""Streams of random numbers: keys of draws, and noise that may come."""

UNSEEN = 1_000_141
"""Keys of the worlds to judge on are folded from this number."""

LEAST_LEVEL = 0.2
"""Tasks per slot: a forecast of none has no logarithm."""

Moves = tuple[jax.Array, ...]


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    files: Annotated[tuple[Path, Path], tyro.conf.Positional]  # of `torta train torta`: blind, and not
    kinds: tuple[generalise.Kind, ...] = ("calm", "hard", "light")  # of random worlds
    clusters: int = 16  # rounded up to a multiple of 8
    slots: int = 160  # of 45 s each, an even number
    steps: int = 150  # of the optimiser with foresight


class Planned(Learned):
    """A network whose corrections are moved for some slots."""

    moves: Any = None  # [FREE, R, len(CORRECTIONS)], before they are limited
    since: Any = None  # [] int32, the slot of the first

    def correct(self, outlook, surprise, observation) -> jax.Array:
        """What the network says, moved."""
        at = observation.slot - self.since
        return super().correct(outlook, surprise, observation) + jnp.where(at < FREE, self.moves[at], 0.0)


def usual(world: World, slots: int) -> jax.Array:
    """[T, R] rates of every slot without noise and surges."""
    calm = scenario.calm(slots, world.cluster.num_regions)
    still = world.workload.replace(noise_sigma=jnp.zeros_like(world.workload.noise_sigma))
    return still.prepare(world.cluster, calm, world.key, slots, Physics().slot_s).rate


def imagined(world: World, mean: jax.Array, level: jax.Array, slot: jax.Array, key: jax.Array) -> World:
    """A world as it may go on from a slot on: with the usual rates [T, R], and noise that is now what a level [R] says.

    The noise is that of `Synthetic`, AR(1); a surge counts as noise. Before the slot nothing is right.
    """
    sigma, shared = world.workload.noise_sigma, world.workload.noise_shared
    keep = jnp.exp(-Physics().slot_s / world.workload.noise_time_s)
    now = jnp.log(jnp.maximum(level, LEAST_LEVEL) / jnp.maximum(mean[slot], 1e-9)) + sigma**2 / 2
    normal = draws.normal(draws.words(draws.fold(key, NOISE), mean.shape[0], mean.shape[1] + 1))
    shock = sigma * jnp.sqrt(1 - keep**2) * (jnp.sqrt(shared) * normal[:, :1] + jnp.sqrt(1 - shared) * normal[:, 1:])

    def step(noise, each):
        at, shock = each
        noise = jnp.where(at <= slot, now, keep * noise + shock)
        return noise, noise

    _, noise = lax.scan(step, now, (jnp.arange(mean.shape[0]), shock))
    price = jnp.broadcast_to(world.scenario.price_factor[slot], mean.shape)
    return world.replace(
        prepared=world.prepared.replace(rate=mean * jnp.exp(noise - sigma**2 / 2)),
        scenario=world.scenario.replace(price_factor=price),
    )


def cost(world: World, policy: Planned, flows: fluid.Flows) -> jax.Array:
    """[] seconds per task from a state on, to the horizon."""

    @jax.checkpoint
    def step(flows, _):
        return fluid.run_slot(world, Physics(), policy, flows, open_loop=True)

    _, slots = lax.scan(step, flows, None, HORIZON)
    total = jax.tree.map(lambda x: x.sum(axis=0), slots)
    return Objective().cost(total.replace(switching_cost=total.switching_cost / HORIZON))


def moved(moves: jax.Array, more: Moves) -> jax.Array:
    """Moves [FREE, R, n] after more of every length of `SPANS`."""
    return moves + sum(jnp.repeat(each, span, axis=0) for each, span in zip(more, SPANS, strict=True))


def plan(world: World, mean: jax.Array, policy: Planned, flows: fluid.Flows, told: bool) -> jax.Array:
    """The policy's moves [FREE, R, n] after `STEPS` steps down the slope of the mean cost of what may come."""
    adam = optax.adam(RATE)
    seen = fluid.observe(flows, world, Physics())
    level = policy.look_ahead(flows.policy, seen).level

    def mean_cost(more: Moves, step):
        def one(draw):
            key = draws.fold(world.key, IMAGINED, flows.slot, step, draw)
            ahead = world if told else imagined(world, mean, level, flows.slot, key)
            mine = policy.replace(moves=moved(policy.moves, more), since=flows.slot)
            return cost(ahead.replace(key=key), mine, flows)

        return jax.vmap(one)(jnp.arange(DRAWS)).mean()

    def step(carry, number):
        more, state = carry
        slope = jax.grad(mean_cost)(more, number)
        known = jnp.isfinite(optax.tree.norm(slope))
        change, state = adam.update(jax.tree.map(lambda each: jnp.where(known, each, 0.0), slope), state)
        return (jax.tree.map(jnp.add, more, change), state), None

    still = tuple(jnp.zeros((FREE // span, *policy.moves.shape[1:])) for span in SPANS)
    (more, _), _ = lax.scan(step, (still, adam.init(still)), jnp.arange(STEPS))
    return moved(policy.moves, more)


def played(world: World, policy: Learned, slots: int, *, told: bool) -> fluid.FlowMetrics:
    """[T] what happens in a world where the planner moves the network's corrections."""
    mean, physics = usual(world, slots), Physics()
    nothing = jnp.zeros((FREE, world.cluster.num_regions, len(CORRECTIONS)))
    planned = Planned(**vars(policy), moves=nothing, since=jnp.int32(0))

    def some(carry, _):
        flows, moves = carry
        moves = plan(world, mean, planned.replace(moves=moves), flows, told)
        mine = planned.replace(moves=moves, since=flows.slot)
        flows, metrics = lax.scan(lambda flows, _: fluid.run_slot(world, physics, mine, flows), flows, None, EVERY)
        return (flows, jnp.concatenate([moves[EVERY:], nothing[:EVERY]])), metrics

    begin = fluid.reset(world, physics, planned), nothing
    _, metrics = lax.scan(some, begin, None, slots // EVERY)
    return jax.tree.map(lambda x: x.reshape(slots, *x.shape[2:]), metrics)


def by_plan(worlds: World, policy: Learned, options: generalise.Options, *, told: bool) -> np.ndarray:
    """[clusters] seconds per task with the planner."""
    one = jax.jit(jax.vmap(partial(played, policy=policy, slots=options.slots, told=told)))
    parts = [generalise.per_world(one(some)) for some in generalise.batches(worlds, options.clusters)]
    return np.concatenate([each["objective"] for each in parts])


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    generalise.long_enough(options.slots)
    require(options.slots % EVERY == 0, f"--slots = {options.slots}: an even number is needed")
    blind, network = (numbers(generalise.of_torta(path)) for path in options.files)
    require((blind.blind, network.blind) == (True, False), "files: the blind one first, then the network")
    whole = -(-options.clusters // generalise.BATCH) * generalise.BATCH
    judged = generalise.Options(
        (), clusters=whole, foresight=whole, slots=options.slots, steps=options.steps, root=UNSEEN
    )
    for kind in options.kinds:
        worlds, begun = generalise.held_out(judged, KINDS[kind], 12), time.perf_counter()
        base = generalise.in_fluid(worlds, blind, judged)["objective"]
        ways = {
            "network": lambda worlds=worlds: generalise.in_fluid(worlds, network, judged)["objective"],
            "planner, of the counts": lambda worlds=worlds: by_plan(worlds, network, judged, told=False),
            "planner, told what is to come": lambda worlds=worlds: by_plan(worlds, network, judged, told=True),
            "foresight": lambda worlds=worlds: generalise.by_foresight(worlds, network, judged),
        }
        found = {}
        for name, way in ways.items():
            found[name] = way()
            console.print(f"{kind}: {name}, {time.perf_counter() - begun:.0f} s")
        gap = base - found["foresight"]
        shown = Table(title=f"{kind}, {whole} clusters, fluid model")
        for column in ("policy", "objective", "difference %", "of gap %", "against the network %"):
            shown.add_column(column, justify="left" if column == "policy" else "right")
        shown.add_row("tuned numbers", f"{base.mean():.2f}")
        for name, values in found.items():
            gain = with_interval(relative(values, base)[None])
            more = with_interval(relative(values, found["network"])[None]) if name != "network" else ""
            shown.add_row(name, f"{values.mean():.2f}", gain, share_of_gap((base - values)[None], gap), more)
        Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(shown)


if __name__ == "__main__":
    answer(main)
