"""How much of the gap to foresight needs the future: a planner that is told it, and one that is told the present alone.

    python -m experiments.planner results/blind/policy.npz results/seed0/policy.npz

The planner (model predictive control) has the fluid model itself, from its very state. Every other slot it moves the
network's corrections of the coming slots down the model's slopes, in draws of all luck (counts, lane times, who is
found when a slot begins) that are none of the world's, and keeps the moves if others of those draws say so. Told the
future, it plans with the world's rates and prices. Told the present, it has the true rates of the coming slot and the
events in force, which no policy has, and draws what may follow by the laws that made the world: hours and tariffs of
the day, noise, events that end and begin. Foresight (`torta_jax.learn.clairvoyant`) knows the luck, too, and looks
farther than the planner's horizon, so that even the planner told the future need not get all that it gains. Unseen
clusters, in the fluid model.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
from torta_jax.learn import pathwise
from torta_jax.learn.recipes import KINDS
from torta_jax.learn.worlds import Range
from torta_jax.schedulers.learned import CORRECTIONS, Learned
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.types import Scenario, numbers
from torta_jax.workload import draws
from torta_jax.workload.scenario import calm, random_scenario

HORIZON, FREE, EVERY = 24, 12, 2
"""Slots that are looked at, the first of them whose corrections are moved, and slots between two plans."""

SPANS = (12, 4, 1)
"""Slots that are moved together, as for `learn.clairvoyant.SPANS`."""

JUDGED = 12
"""Draws in which a plan has to be better than the one before it."""

TOLD = "planner, told the present", "planner, told the future"
"""Rows of the table."""

NOISE, EVENTS, ENDS = 40, 41, 42
"""Streams of random numbers of an imagined world; those of the fluid model have smaller numbers."""

LONGEST = 0.25
"""Share of an episode that an event may last, as in `random_scenario`."""

UNSEEN = 1_000_141
"""Keys of the worlds to judge on are folded from this number."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    files: Annotated[tuple[Path, Path], tyro.conf.Positional]  # of `torta train torta`: blind, and not
    kinds: tuple[generalise.Kind, ...] = ("calm", "hard", "light")  # of random worlds
    clusters: int = 8  # rounded up to a multiple of 8
    slots: int = 160  # of 45 s each
    steps: int = 10  # of the planner's optimiser, for each plan
    rate: float = 0.03  # of Adam
    draws: int = 6  # of luck and of what may come, others in each step
    foresight_steps: int = 150  # of the optimiser with foresight


class Planned(Learned):
    """A network whose corrections are moved for some slots."""

    moves: Any = None  # [FREE, R, len(CORRECTIONS)], before they are limited
    since: Any = None  # [] int32, the slot of the first

    def correct(self, outlook, surprise, observation) -> jax.Array:
        """What the network says, moved."""
        at = observation.slot - self.since
        return super().correct(outlook, surprise, observation) + jnp.where(at < FREE, self.moves[at], 0.0)


def usual(world: World) -> jax.Array:
    """[T, R] rates of every slot without noise and surges."""
    slots, regions = world.prepared.rate.shape
    still = world.workload.replace(noise_sigma=jnp.zeros_like(world.workload.noise_sigma))
    return still.prepare(world.cluster, calm(slots, regions), world.key, slots, Physics().slot_s).rate


def imagined(world: World, kind: Range, mean: jax.Array, slot: jax.Array, key: jax.Array) -> World:
    """A world of a kind as it may go on after a slot, with the usual rates [T, R]; before the slot nothing is right.

    The noise is that of `Synthetic`: AR(1), of which a share is common to all regions.
    """
    sigma, shared = world.workload.noise_sigma, world.workload.noise_shared
    keep = jnp.exp(-Physics().slot_s / world.workload.noise_time_s)
    without = jnp.maximum(mean[slot] * world.scenario.rate_factor[slot], 1e-9)  # noise; a region may have no users
    begin = jnp.log(jnp.maximum(world.prepared.rate[slot], 1e-9) / without) + sigma**2 / 2
    normal = draws.normal(draws.words(draws.fold(key, NOISE), mean.shape[0], mean.shape[1] + 1))
    shock = sigma * jnp.sqrt(1 - keep**2) * (jnp.sqrt(shared) * normal[:, :1] + jnp.sqrt(1 - shared) * normal[:, 1:])

    def step(noise, each):
        at, shock = each
        noise = jnp.where(at <= slot, begin, keep * noise + shock)
        return noise, noise

    _, noise = lax.scan(step, begin, (jnp.arange(mean.shape[0]), shock))
    scenario = onwards(world.scenario, kind, slot, key)
    rate = mean * jnp.exp(noise - sigma**2 / 2) * scenario.rate_factor
    return world.replace(prepared=world.prepared.replace(rate=rate), scenario=scenario)


def onwards(scenario: Scenario, kind: Range, slot: jax.Array, key: jax.Array) -> Scenario:
    """Events [T, R] as they may go on after a slot: those in force end at some time, others begin.

    Lengths are uniform, so one found in force has a length whose density rises in proportion to it, and any part of
    that is left. The others are those of another draw that have not begun at the slot, where none has.
    """
    slots, regions = scenario.rate_factor.shape
    other = random_scenario(
        draws.fold(key, EVENTS), slots, regions, failures=0, max_surge=kind.max_surge, max_price=kind.max_price
    )
    length, left = draws.unit(draws.words(draws.fold(key, ENDS), 2, 2))
    last = slot + jnp.floor(LONGEST * slots * jnp.sqrt(length) * left)
    at = jnp.arange(slots)[:, None]

    def go_on(now, later, last):
        later = jnp.maximum(later, 1.0)
        return jnp.where(at <= last, now[slot], 1.0) * jnp.where((at > slot) & (later[slot] == 1), later, 1.0)

    return scenario.replace(
        rate_factor=go_on(scenario.rate_factor, other.rate_factor, last[0]),
        price_factor=go_on(scenario.price_factor, other.price_factor, last[1]),
    )


class Planner(NamedTuple):
    """Moves the corrections of a network in worlds of a kind."""

    kind: Range
    told: bool  # the future
    steps: int
    rate: float
    draws: int

    def plan(self, world: World, mean: jax.Array, policy: Planned, flows: fluid.Flows) -> jax.Array:
        """The policy's moves [FREE, R, n] after some steps down the slope of the cost of what may come."""
        adam = optax.adam(self.rate)

        def cost(moves, step, count):
            mine = policy.replace(moves=moves, since=flows.slot)

            def one(draw):
                key = draws.fold(jax.random.key(UNSEEN), flows.slot, step, draw)
                coming = world if self.told else imagined(world, self.kind, mean, flows.slot, key)
                return pathwise.totals(coming.replace(key=key), Physics(), mine, flows, HORIZON)

            totals = jax.vmap(one)(jnp.arange(count))
            return Objective().cost(jax.tree.map(lambda x: x.mean(axis=0), totals))

        def moved(more):
            return policy.moves + sum(jnp.repeat(each, span, axis=0) for each, span in zip(more, SPANS, strict=True))

        def step(carry, number):
            more, state = carry
            slope = jax.grad(lambda more: cost(moved(more), number, self.draws))(more)
            change, state = adam.update(pathwise.flat_unless_finite(slope), state)
            return (jax.tree.map(jnp.add, more, change), state), None

        still = tuple(jnp.zeros((FREE // span, *policy.moves.shape[1:])) for span in SPANS)
        (more, _), _ = lax.scan(step, (still, adam.init(still)), jnp.arange(self.steps))
        better = cost(moved(more), self.steps, JUDGED) < cost(policy.moves, self.steps, JUDGED)
        return jnp.where(better, moved(more), policy.moves)

    def play(self, world: World, policy: Learned, slots: int) -> tuple[fluid.FlowMetrics, jax.Array]:
        """[T] what happens in a world, and the moves [T / EVERY, FREE, R, n] of all plans."""
        mean, physics = usual(world), Physics()
        nothing = jnp.zeros((FREE, world.cluster.num_regions, len(CORRECTIONS)))
        planned = Planned(**vars(policy), moves=nothing, since=jnp.int32(0))

        def some(carry, _):
            flows, moves = carry
            moves = self.plan(world, mean, planned.replace(moves=moves), flows)
            mine = planned.replace(moves=moves, since=flows.slot)
            flows, metrics = lax.scan(lambda flows, _: fluid.run_slot(world, physics, mine, flows), flows, None, EVERY)
            return (flows, jnp.concatenate([moves[EVERY:], nothing[:EVERY]])), (metrics, moves)

        begin = fluid.reset(world, physics, planned), nothing
        _, (metrics, moves) = lax.scan(some, begin, None, slots // EVERY)
        return jax.tree.map(lambda x: x.reshape(slots, *x.shape[2:]), metrics), moves


def by_plan(planner: Planner, worlds: World, policy: Learned, slots: int) -> np.ndarray:
    """[clusters] seconds per task with a planner."""
    one = jax.jit(jax.vmap(lambda world: planner.play(world, policy, slots)[0]))
    parts = [generalise.per_world(one(some)) for some in generalise.batches(worlds, worlds.key.shape[0])]
    return np.concatenate([each["objective"] for each in parts])


def judge(kind: str, blind: Learned, network: Learned, options: Options, tell: Callable[[str], None]) -> Table:
    """The table of a kind of worlds."""
    clusters = -(-options.clusters // generalise.BATCH) * generalise.BATCH
    judged = generalise.Options(
        (), clusters=clusters, foresight=clusters, slots=options.slots, steps=options.foresight_steps, root=UNSEEN
    )
    worlds = generalise.held_out(judged, KINDS[kind], 12)
    planner = partial(Planner, KINDS[kind], steps=options.steps, rate=options.rate, draws=options.draws)
    ways = {
        "tuned numbers": lambda: generalise.in_fluid(worlds, blind, judged)["objective"],
        "network": lambda: generalise.in_fluid(worlds, network, judged)["objective"],
        TOLD[0]: lambda: by_plan(planner(told=False), worlds, network, options.slots),
        TOLD[1]: lambda: by_plan(planner(told=True), worlds, network, options.slots),
        "foresight": lambda: generalise.by_foresight(worlds, network, judged),
    }
    found = {}
    for name, way in ways.items():
        found[name] = way()
        tell(name)
    base, present, future = (found[name] for name in ("tuned numbers", *TOLD))
    gap = base - found["foresight"]
    shown = Table("policy", title=f"{kind}, {clusters} clusters, fluid model")
    for column in ("objective", "difference %", "of gap %"):
        shown.add_column(column, justify="right")
    shown.add_row("tuned numbers", f"{base.mean():.2f}")
    for name in list(ways)[1:]:
        gain, share = with_interval(relative(found[name], base)[None]), share_of_gap((base - found[name])[None], gap)
        shown.add_row(name, f"{found[name].mean():.2f}", gain, share)
    for title, less, more in (
        ("present told, less network", found["network"], present),
        ("future told, less present", present, future),
    ):
        gain = with_interval(relative(more, base)[None] - relative(less, base)[None])
        shown.add_row(title, "", gain, share_of_gap((less - more)[None], gap))
    return shown


def main() -> None:
    options, console, begun = asked(Options, __doc__), Console(stderr=True, highlight=False), time.perf_counter()
    generalise.long_enough(options.slots)
    require(options.slots % EVERY == 0, f"--slots = {options.slots}: a multiple of {EVERY} is needed")
    blind, network = (numbers(generalise.of_torta(path)) for path in options.files)
    require((blind.blind, network.blind) == (True, False), "files: the blind one first, then the network")

    def tell(done: str) -> None:
        console.print(f"{time.perf_counter() - begun:.0f} s: {done}")

    out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for kind in options.kinds:
        out.print(judge(kind, blind, network, options, lambda done, kind=kind: tell(f"{kind}, {done}")))


if __name__ == "__main__":
    answer(main)
