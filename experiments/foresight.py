"""What foresight would gain on the paper's topologies and on a trace, and which share of that a network gains.

    python -m experiments.foresight [--topologies abilene polska] [--trace FILE] [--file results/blind/policy.npz]

As in `experiments.generalise`, in the fluid model: the corrections of every slot, optimised in a world whose future is
known (`torta_jax.learn.clairvoyant`), from what the network does. The worlds are those of `torta compare`. A trace is
replayed on Abilene in the mean: as many requests in every slot as it has, give or take a Poisson number's luck, in the
regions by their share of demand, of its mean work.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from experiments.compared import compared
from experiments.intervals import relative, share_of_gap
from torta_jax import schedulers
from torta_jax.cli.world import World as Compared
from torta_jax.evaluate.rollout import world_keys
from torta_jax.schedulers.trained import TOPOLOGIES
from torta_jax.sim import fluid
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics
from torta_jax.types import KINDS, Cluster, numbers
from torta_jax.workload import Synthetic, Trace

NETWORK = "torta-learned"


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    topologies: tuple[str, ...] = TOPOLOGIES  # of the paper
    trace: Path | None = None  # a CSV file, replayed on Abilene
    file: Path | None = None  # a policy of `torta train`, the reference in place of `torta`
    seeds: int = 4  # worlds, the same for every policy
    slots: int | None = None  # default: those of `torta compare`
    steps: int = 150  # of the optimiser


def in_the_mean(trace: Trace, cluster: Cluster, slots: int) -> tuple[Synthetic, jax.Array]:
    """A workload of a trace's mean work, kind by kind as often as there, and its rates [T, R]."""
    there = np.arange(trace.max_tasks) < np.asarray(trace.count)[:, None]
    prefill_s = np.asarray(trace.input_tokens / trace.prefill_tokens_per_s)[there].mean()
    decode_s = np.asarray(trace.output_tokens / trace.decode_tokens_per_s)[there].mean()
    work_s = float(prefill_s + decode_s)
    of_kind = np.bincount(np.asarray(trace.kind)[there], minlength=len(KINDS)) / there.sum()
    made = Synthetic.create(
        work_low_s=work_s,
        work_high_s=work_s,
        prefill_share=float(prefill_s) / work_s,
        kind_share=tuple(map(float, of_kind)),
        start_hour_utc=float(trace.start_hour_utc),
    )
    origin = np.where(there, np.asarray(trace.origin), cluster.num_regions)[:slots]
    named = np.stack([(origin == region).sum(axis=1) for region in range(cluster.num_regions)], axis=1)
    unnamed = (origin < 0).sum(axis=1)
    return made, jnp.asarray(named + unnamed[:, None] * np.asarray(cluster.demand_share), float)


def made(built: Compared) -> tuple[World, int]:
    """[seeds] worlds of a comparison, and its number of slots."""
    slots = built.scenario.alive.shape[0]
    workload, rate = built.workload, None
    if isinstance(workload, Trace):
        workload, rate = in_the_mean(workload, built.cluster, slots)
    make = lambda key: make_world(built.cluster, workload, built.scenario, key, slots)  # noqa: E731
    found = jax.jit(jax.vmap(make))(world_keys(range(built.options.seeds)))
    if rate is not None:
        rates = jnp.broadcast_to(rate, (built.options.seeds, *rate.shape))
        found = found.replace(prepared=found.prepared.replace(rate=rates))
    return found, slots


def costs(found: World, slots: int, policies: dict[str, Any], steps: int) -> dict[str, np.ndarray]:
    """Seconds per task [seeds] of every policy, and with foresight."""
    play = jax.jit(jax.vmap(lambda world, policy: fluid.simulate(world, Physics(), policy, slots)[1], (0, None)))
    cost = {name: generalise.per_world(play(found, numbers(policy)))["objective"] for name, policy in policies.items()}
    size = generalise.Options((), foresight=len(found.key), slots=slots, steps=steps)
    return cost | {"foresight": generalise.by_foresight(found, numbers(policies[NETWORK]), size)}


def main() -> None:
    options, console = asked(Options, __doc__, ("topologies",)), Console(stderr=True, highlight=False)
    if options.slots is not None:
        generalise.long_enough(options.slots)
    policies = {} if options.file is None else generalise.loaded([options.file])
    policies |= {name: schedulers.get(name) for name in ("torta", NETWORK)}
    reference = next(iter(policies))
    size = {"seeds": options.seeds, "slots": options.slots}
    built = compared(options.topologies, options.trace, policies=("torta",), **size)
    shown = Table(title="Eq 1 per task in the fluid model; of the gap to foresight, what a policy closes")
    for column in ("world", "policy", "s/task", f"against {reference}, %", "of gap %"):
        shown.add_column(column, justify="left" if column in ("world", "policy") else "right")
    for name, world in built.items():
        begun = time.perf_counter()
        cost = costs(*made(world), policies, options.steps)
        console.print(f"{name}: {time.perf_counter() - begun:.0f} s")
        base = cost[reference]
        gap = base - cost["foresight"]
        for policy, values in cost.items():
            share = share_of_gap((base - values)[None], gap) if gap.sum() > 0 else ""
            shown.add_row(name, policy, f"{values.mean():.3f}", f"{relative(values, base).mean():+.2f}", share)
        shown.add_section()
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(shown)


if __name__ == "__main__":
    answer(main)
