"""How far the fluid model is from the task model: every measure of some policies, and what a change of a number does.

Training looks at the fluid model alone, so what matters beside the means is that a change makes both better or both
worse. First random worlds as training has them, under keys of their own, and how long tasks wait there; then Abilene,
the middle of an evaluation's hours. Rates are the same in both models, draws of tasks are the task model's own.

    python -m experiments.fluid_gap
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate, world_keys
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.tuned import with_numbers
from torta_jax.sim import fluid, slot
from torta_jax.sim.env import Objective
from torta_jax.sim.fluid_servers import copies, loading
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics
from torta_jax.types import Phase, numbers
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

RANDOM = 1_000_005
"""Keys of the random worlds are folded from this number: nothing was trained, fitted or evaluated on them."""
THERE = ("torta", "torta-learned", "skylb-engineered")
"""Policies that are shown in random worlds."""

POLICIES = ("torta", "torta-learned", "skylb-engineered", "torta-paper", "skylb")
CHANGES: dict[str, dict[str, Any]] = {
    "fill regions to .7": {"transport": {"utilisation": 0.7}},
    "fill regions to .9": {"transport": {"utilisation": 0.9}},
    "distance 50 times as dear": {"transport": {"latency_weight": 0.5}},
    "no smoothing": {"transport": {"smoothing": 0.0}},
    "half the safety": {"activation": {"sigma": 6.0}},
    "four times the cool-down": {"activation": {"cooldown_s": 300.0}},
    "no foresight": {"forecast": {"horizon": 0.0}},
    "no toll": {"toll": {"weight": 0.0}},
    "overflow from .5 on": {"rule": {"keep_below": 0.5}},
    "overflow from .9 on": {"rule": {"keep_below": 0.9}},
}
TOLD = ("objective", "response_s", "power_cost_usd")
MEASURES = (*TOLD, "wait_s", "inference_s", "warmup_s", "switching_cost", "dropped")
LOADS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Lower ends of the classes of utilisation."""
LEAST = 1e-3
"""Of all lane time: with less a class is not shown."""
COPIES = {"less than one": 0.0, "one to two": 1.0, "two to four": 2.0, "four to six": 4.0, "more": 6.0}
"""Lower ends of the classes of copies of every model that a region's warm servers can hold."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    seeds: int = 8  # worlds, the same for every policy
    slots: int = 240  # of 45 s each
    clusters: int = 16  # random ones of each kind
    cluster_slots: int = 120  # of 45 s each, in random worlds


def measures(slots: Any) -> dict[str, float]:
    """Means over tasks, and over seeds for what is no task's; of slot metrics [seeds, T] of either model."""
    total = jax.tree.map(lambda x: np.asarray(x).sum(axis=1), slots)
    total = total.replace(switching_cost=np.asarray(slots.switching_cost).mean(axis=1))
    found = {name: getattr(total, name).sum() / total.completed.sum() for name in MEASURES if name.endswith("_s")}
    found["objective"] = float(np.mean(jax.vmap(Objective().cost)(total)))
    found["power_cost_usd"] = total.power_cost_usd.mean()
    found["switching_cost"] = total.switching_cost.mean()
    found["dropped"] = total.dropped.sum() / len(total.arrived)
    return found


@partial(jax.jit, static_argnames="slots")
def regions_in_tasks(worlds: World, physics: Physics, policy, slots: int) -> dict[str, jax.Array]:
    """Per region and slot of the task model [clusters, T, R]: utilisation, copies of every model, seconds of all tasks.

    `wait_s` is what was waited in this slot, by tasks that got a lane and by those that have none yet. `lane_s`,
    `loading_s` and what the fluid model's formula makes of the latter are of the tasks that got a lane.
    """

    def one(world):
        regions, lanes = world.cluster.num_regions, world.cluster.lane_mask.sum(axis=-2)

        def step(carry, _):
            state, totals, _, record = slot.run_slot(world, physics, policy, *carry, axis_name="clusters")
            pool, taken, on_s = record.pool, record.order >= 0, record.usage.on_s
            add = lambda x: jnp.zeros(regions).at[pool.region].add(jnp.where(taken, x, 0.0))  # noqa: E731
            tasks, lane_s, loading_s = add(1.0), add(pool.finish_s - pool.start_s), add(pool.loading_s)
            busy_s, able_s = record.usage.busy_s.sum(axis=-1), jnp.maximum((on_s * lanes).sum(axis=-1), 1e-6)
            on, run_s = on_s / physics.slot_s, (lane_s - loading_s) / jnp.maximum(tasks, 1.0)
            waits = pool.phase == Phase.BUFFERED  # those that still do at the end of the slot
            ends_s = jnp.where(taken, pool.start_s, physics.slot_s)
            waited_s = jnp.where(taken | waits, ends_s - jnp.maximum(pool.arrival_s, 0.0), 0.0)
            by_formula = loading(world.cluster, world.workload, on, (busy_s - loading_s) / able_s, run_s)
            return (state, totals), {
                "load": busy_s / able_s,
                "copies": copies(world.cluster, world.workload, on),
                "wait_s": jnp.zeros(regions).at[pool.region].add(waited_s),
                "lane_s": lane_s,
                "loading_s": loading_s,
                "formula_loading_s": tasks * by_formula,
            }

        return jax.lax.scan(step, slot.reset(world, physics, policy), None, length=slots)[1]

    return jax.vmap(one, axis_name="clusters")(worlds)


@partial(jax.jit, static_argnames="slots")
def regions_in_flows(worlds: World, physics: Physics, policy, slots: int) -> dict[str, jax.Array]:
    """Per region and slot of the fluid model [clusters, T, R]: utilisation, copies of every model, lanes and waits."""

    def one(world):
        lanes = world.cluster.lane_mask.sum(axis=-2)

        def step(flows, _):
            after, _ = fluid.run_slot(world, physics, policy, flows)
            warm = fluid.warm_share(world.cluster, after.on, after.starts, physics.slot_s)
            able = warm * lanes
            standing = after.queue - after.backlog + 0.5 * (flows.backlog + after.backlog)
            return after, {
                "load": (able * after.busy).sum(axis=-1) / jnp.maximum(able.sum(axis=-1), 1e-6),
                "copies": copies(world.cluster, world.workload, warm),
                "lane_s": after.running * physics.slot_s,
                "wait_s": standing * physics.slot_s,
            }

        return jax.lax.scan(step, fluid.reset(world, physics, policy), None, length=slots)[1]

    return jax.vmap(one)(worlds)


def random_worlds(options: Options, console: Console) -> None:
    """Tables of both models in the worlds of training, and of waits and loading by utilisation and copies."""
    size = generalise.Options((), clusters=options.clusters, slots=options.cluster_slots, root=RANDOM)
    columns = ("objective", "response_s", "cost_usd", "overhead_s", "switching", "dropped")
    shown = Table(title=f"random worlds, {size.clusters} of each kind: fluid / task model")
    by_use = "of `torta`'s tasks, by a region's utilisation and copies of every model"
    waits = Table(title=f"wait in % of lane time {by_use}: fluid / task model")
    loads = Table(title=f"loading in % of lane time {by_use}: formula / task model")
    classes = list(map("from {}".format, LOADS))
    left = ("kind", "policy", "copies")
    for table, names in (
        (shown, ("kind", "policy", *columns)),
        (waits, ("kind", "copies", *classes)),
        (loads, ("kind", "copies", *classes)),
    ):
        for name in names:
            table.add_column(name.replace("_", " "), justify="left" if name in left else "right")
    for kind, ends in KINDS.items():
        worlds = generalise.held_out(size, ends, 12)
        for name in THERE:
            policy = numbers(schedulers.get(name))
            found = generalise.in_fluid(worlds, policy, size), generalise.in_tasks(worlds, policy, size)
            both = [[one[column].mean() for one in found] for column in columns]
            shown.add_row(kind, name, *(f"{flows:.3g} / {exact:.3g}" for flows, exact in both))
        for number, wait, load in by_load(worlds, size):
            waits.add_row(kind, number, *wait)
            loads.add_row(kind, number, *load)
    for table in (shown, waits, loads):
        console.print(table)


def by_load(worlds: World, size: generalise.Options) -> Iterator[tuple[str, list[str], list[str]]]:
    """For each class of copies: wait and loading by class of utilisation, as the fluid model has both."""
    one = jax.tree.map(lambda x: x[0], worlds.cluster)
    physics, policy = Physics().sized(one, worlds.workload.max_tasks, generalise.ROOM_SLOTS), schedulers.get("torta")
    skipped = size.slots // 5
    found = []
    for play, room in ((regions_in_flows, Physics()), (regions_in_tasks, physics)):
        parts = [play(each, room, numbers(policy), size.slots) for each in generalise.batches(worlds, size.clusters)]
        seen = jax.tree.map(lambda *each: np.concatenate(each)[:, skipped:].ravel(), *parts)
        load, group = np.digitize(seen["load"], LOADS) - 1, np.digitize(seen["copies"], list(COPIES.values())) - 1
        found.append((seen, load, group))
    (flows, *of_flows), (tasks, *of_tasks) = found
    for i, number in enumerate(COPIES):
        waits, loads = [""] * len(LOADS), [""] * len(LOADS)
        for k in range(len(LOADS)):
            there = [(load == k) & (group == i) for load, group in (of_flows, of_tasks)]
            fluid_sums, sums = (
                {name: values[at].sum() for name, values in seen.items()}
                for seen, at in zip((flows, tasks), there, strict=True)
            )
            if min(fluid_sums["lane_s"], sums["lane_s"]) > LEAST * tasks["lane_s"].sum():
                loaded = sums["formula_loading_s"]
                both = loaded / (sums["lane_s"] - sums["loading_s"] + loaded), sums["loading_s"] / sums["lane_s"]
                loads[k] = " / ".join(f"{100 * share:.1f}" for share in both)
                waits[k] = " / ".join(f"{100 * each['wait_s'] / each['lane_s']:.0f}" for each in (fluid_sums, sums))
        yield number, waits, loads


def abilene(options: Options, console: Console) -> None:
    """Tables of some policies, and of changes of `torta`."""
    cluster = clusters.build("abilene")
    skipped_h = (480 - options.slots) / 2 * Physics().slot_s / 3600
    workload = Synthetic.create()
    workload = workload.replace(start_hour_utc=workload.start_hour_utc + skipped_h)
    scenario = calm(options.slots, cluster.num_regions)
    policies = {name: schedulers.get(name) for name in POLICIES}
    policies |= {name: with_numbers(policies["torta"], change) for name, change in CHANGES.items()}
    physics = Physics().sized(cluster, workload.max_tasks, 4.0)
    tasks = evaluate(cluster, workload, scenario, policies, options.seeds, options.slots, physics=physics)

    @jax.jit
    @jax.vmap
    def worlds(key):
        return make_world(cluster, workload, scenario, key, options.slots)

    made = worlds(world_keys(range(options.seeds)))
    play = jax.jit(lambda policy: jax.vmap(lambda w: fluid.simulate(w, Physics(), policy, options.slots)[1])(made))
    found = {name: (measures(play(numbers(policy))), measures(tasks[name].slots)) for name, policy in policies.items()}
    shown = Table(title="Abilene: fluid / task model")
    for column in ("policy", *MEASURES):
        shown.add_column(column.replace("_", " "), justify="left" if column == "policy" else "right")
    for name in POLICIES:
        flows, exact = found[name]
        shown.add_row(name, *(f"{flows[measure]:.3g} / {exact[measure]:.3g}" for measure in MEASURES))
    console.print(shown)
    shown = Table(title="a change of `torta`: what it does to objective, response and cost, fluid / task model")
    for column in ("change", *TOLD):
        shown.add_column(column.replace("_", " "), justify="left" if column == "change" else "right")
    base = found["torta"]
    for name in CHANGES:
        cells = [[found[name][i][measure] - base[i][measure] for i in (0, 1)] for measure in TOLD]
        shown.add_row(name, *(f"{flows:+.2f} / {exact:+.2f}" for flows, exact in cells))
    console.print(shown)


def main() -> None:
    options = asked(Options, __doc__)
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    random_worlds(options, console)
    abilene(options, console)


if __name__ == "__main__":
    answer(main)
