"""What learning gains on clusters that no training has seen: policies in the same random worlds, in the task model.

    torta train torta --out results/blind --blind
    for seed in 1 2; do torta train torta --out results/blind$seed --blind --seed $seed; done
    for seed in 0 1 2 3 4 5 6 7 8 9; do torta train torta --out results/seed$seed --seed $seed; done
    python -m experiments.generalise results/{blind,blind?,seed?}/policy.npz

`torta` has the numbers tuned on Abilene; a policy of `--blind` has numbers tuned on random worlds by the same method
with the same budget, which is what a network has to be compared with. The first of them is the reference. Worlds are
those of `torta_jax.learn.worlds`, of keys that training never uses; what the fluid model says of them stands beside,
and which share of the gap between the reference and foresight (`torta_jax.learn.clairvoyant`) a policy closes there.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, short_names
from experiments.intervals import relative, share_of_gap, with_interval
from torta_jax import schedulers
from torta_jax.errors import InputError, require
from torta_jax.files import put, writable
from torta_jax.learn import clairvoyant
from torta_jax.learn.recipes import KINDS
from torta_jax.learn.worlds import Range, random_world
from torta_jax.schedulers import Learned
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.simulate import advance, start
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload import draws
from torta_jax.workload.synthetic import padding_for

HELD_OUT, DEVELOP = 1_000_091, 1_000_033
"""Keys of training are folded from seeds of users; those of evaluation from the first. Whoever tries a change looks at
worlds of the second, so that what is published was not in view (docs/decisions.md)."""

Kind = Literal["calm", "hard", "light"]
Found = dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
"""Measures [clusters] of policies in the task and in the fluid model."""

BATCH = 8
ROOM_SLOTS = 4.0

OTHERS = ("torta", "skylb-engineered")
"""Policies of the package that are judged, too."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    # of `torta train torta`, before all options; the first blind one is the reference
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    kinds: tuple[Kind, ...] = get_args(Kind)  # of random worlds
    regions: tuple[int, ...] = (12,)  # in every cluster
    clusters: int = 64  # rounded up to a multiple of 8, as the next one
    foresight: int = 32  # of the clusters, how many are optimised with foresight; 0: none
    steps: int = 150  # of its optimiser
    servers: int = 24  # per region at most
    slots: int = 160  # of 45 s each
    root: int = HELD_OUT  # keys of the worlds are folded from this number
    out: Path | None = None  # every measure of every world, as JSON


def held_out(options: Options, kind: Range, regions: int) -> World:
    """[clusters] worlds of a kind, of keys folded from `options.root`, with room for their busiest slot."""
    keys = draws.fold_each(jax.random.key(options.root), jnp.arange(options.clusters))
    make = lambda key: random_world(key, kind, regions, options.servers, options.slots)  # noqa: E731
    worlds = jax.jit(jax.vmap(make))(keys)
    room = padding_for(float(worlds.prepared.cumulative_rate[..., -1].max()), 1e-6)
    return worlds.replace(workload=worlds.workload.replace(max_tasks=room))


def per_world(slots: Any) -> dict[str, np.ndarray]:
    """Measures [clusters] of slot metrics [clusters, T]."""
    slots = jax.tree.map(np.asarray, slots)
    total = jax.tree.map(lambda x: x.sum(axis=1), slots)
    total = total.replace(switching_cost=slots.switching_cost.mean(axis=1))
    return {
        "objective": np.asarray(jax.vmap(Objective().cost)(total)),
        "response_s": total.response_s / total.completed,
        "cost_usd": total.power_cost_usd,
        "overhead_s": (total.warmup_s + total.model_load_s) / total.completed,
        "switching": total.switching_cost,
        "dropped": 100 * total.dropped.sum(axis=-1) / total.arrived,
    }


def batches(worlds: World, count: int) -> Iterator[World]:
    """The first `count` worlds, `BATCH` at a time."""
    for at in range(0, count, BATCH):
        yield jax.tree.map(lambda x: x[at : at + BATCH], worlds)  # noqa: B023


@partial(jax.jit, static_argnames="slots")
def play_tasks(worlds: World, physics: Physics, policy, slots: int):
    """Metrics [clusters, T] in the task model; one program for all policies of a kind."""

    def one(world):
        begun = start(world, physics, policy)
        return advance(world, physics, policy, begun, slots, axis_name="clusters")[1]

    return jax.vmap(one, axis_name="clusters")(worlds)


@partial(jax.jit, static_argnames="slots")
def play_flows(worlds: World, policy, slots: int):
    """Metrics [clusters, T] in the fluid model."""
    return jax.vmap(lambda world: fluid.simulate(world, Physics(), policy, slots)[1])(worlds)


def in_tasks(worlds: World, policy, options: Options) -> dict[str, np.ndarray]:
    """The task model, in batches."""
    one = jax.tree.map(lambda x: x[0], worlds.cluster)
    physics = Physics().sized(one, worlds.workload.max_tasks, ROOM_SLOTS)
    parts = [play_tasks(some, physics, policy, options.slots) for some in batches(worlds, options.clusters)]
    return per_world(jax.tree.map(lambda *each: np.concatenate(each), *parts))


def in_fluid(worlds: World, policy, options: Options) -> dict[str, np.ndarray]:
    """The fluid model."""
    return per_world(play_flows(worlds, policy, options.slots))


def by_foresight(worlds: World, policy: Learned, options: Options) -> np.ndarray:
    """[foresight] the objective of the best script found for each of the first worlds, in the fluid model."""
    find = jax.jit(
        jax.vmap(lambda world: jnp.nanmin(clairvoyant.optimise(world, policy, options.slots, steps=options.steps)[1]))
    )
    return np.concatenate([find(some) for some in batches(worlds, options.foresight)])


COLUMNS = (
    "Eq 1 s/task",
    "Eq 1, Δ %",
    "response s",
    "cost, Δ %",
    "overhead s",
    "overhead, Δ %",
    "drops %",
    "drops, Δ points",
    "fluid, Δ %",
    "of gap %",
)


def table(title: str, found: Found, reference: str, trainings: Sequence[str], foreseen: np.ndarray) -> Table:
    """One row per policy and one for the mean of several trainings; differences are to the reference, world by world.

    Where there is foresight, what is said of the fluid model is of the clusters that have it.
    """
    shown = Table("policy", title=f"{title}; Δ: against {reference}")
    for column in COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    base, base_fluid = found[reference]
    some = slice(len(foreseen) or None)
    gap = base_fluid["objective"][: len(foreseen)] - foreseen
    rows = {name: [name] for name in found}
    if len(trainings) > 1:
        rows[f"mean of {len(trainings)} trainings"] = list(trainings)
    for row, names in rows.items():
        tasks, flows = ({key: np.stack([found[name][part][key] for name in names]) for key in base} for part in (0, 1))
        means = {key: values.mean() for key, values in tasks.items()}
        gains = [with_interval(relative(tasks[key], base[key])) for key in ("objective", "overhead_s")]
        gains.append(with_interval(tasks["dropped"] - base["dropped"], "+.3f"))
        in_flows = relative(flows["objective"][:, some], base_fluid["objective"][some])
        closed = base_fluid["objective"][some] - flows["objective"][:, some]
        if row == reference:
            gains = [""] * len(gains)
        shown.add_row(
            *(row, f"{means['objective']:.2f}", gains[0], f"{means['response_s']:.2f}"),
            f"{relative(tasks['cost_usd'], base['cost_usd']).mean():+.1f}",
            *(f"{means['overhead_s']:.2f}", gains[1], f"{means['dropped']:.3f}", gains[2], f"{in_flows.mean():+.2f}"),
            share_of_gap(closed, gap) if len(gap) and row != reference else "",
        )
    if len(foreseen):
        least = relative(foreseen, base_fluid["objective"][some]).mean()
        shown.add_row(f"foresight, {len(foreseen)} clusters", *[""] * (len(COLUMNS) - 2), f"{least:+.2f}", "100")
    return shown


def loaded(paths: Sequence[Path]) -> dict[str, Learned]:
    """The policies of some files by their names."""
    names = short_names(paths, {*schedulers.NAMES, *schedulers.LEARNED})
    return {name: of_torta(path) for name, path in zip(names, paths, strict=True)}


def of_torta(path: Path) -> Learned:
    """A policy of `torta train torta`."""
    policy = schedulers.load(path)
    if not isinstance(policy, Learned):
        raise InputError(f"{path}: not a policy of `torta train torta`")
    return policy


def long_enough(slots: int) -> None:
    """Refuse episodes in which foresight has nothing to choose."""
    require(slots > clairvoyant.LAST, f"--slots = {slots}: more than {clairvoyant.LAST} are needed for foresight")


def parted(files: dict[str, Learned]) -> tuple[str, list[str]]:
    """Names of the reference, the first that is blind, and of the networks."""
    blind, networks = ([name for name, policy in files.items() if policy.blind is wanted] for wanted in (True, False))
    require(bool(blind), "files: one of `torta train torta --blind` is needed, the reference")
    return blind[0], networks


def main() -> None:
    options, console = asked(Options, __doc__, ("foresight", "files")), Console(stderr=True, highlight=False)
    options = replace(options, clusters=-(-options.clusters // BATCH) * BATCH)
    options = replace(options, foresight=min(-(-options.foresight // BATCH) * BATCH, options.clusters))
    require(options.root < 2**31, f"--root = {options.root}: less than 2147483648 is needed")
    if options.foresight:
        long_enough(options.slots)
    files = loaded(options.files)
    reference, trainings = parted(files)
    if options.out is not None:
        writable("--out", options.out)
    policies, measured = files | {name: schedulers.get(name) for name in OTHERS}, {}
    for kind in options.kinds:
        for regions in options.regions:
            worlds, found = held_out(options, KINDS[kind], regions), {}
            for name, policy in policies.items():
                begun = time.perf_counter()
                made = numbers(policy)
                found[name] = in_tasks(worlds, made, options), in_fluid(worlds, made, options)
                console.print(f"{kind}, {regions} regions: {name}, {time.perf_counter() - begun:.0f} s")
            foreseen = np.zeros(0)
            if options.foresight and trainings:
                begun = time.perf_counter()
                foreseen = by_foresight(worlds, numbers(files[trainings[0]]), options)
                console.print(f"{kind}, {regions} regions: foresight, {time.perf_counter() - begun:.0f} s")
            title = f"{kind}, {regions} regions, {options.clusters} clusters"
            out = Console(width=None if sys.stdout.isatty() else 210, highlight=False)
            out.print(table(title, found, reference, trainings, foreseen))
            measured[title] = found | {"foresight": foreseen}
            if options.out is not None:
                put(options.out, json.dumps(jax.tree.map(np.ndarray.tolist, measured)).encode())


if __name__ == "__main__":
    answer(main)
