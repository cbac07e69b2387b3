"""How far the fluid model is from the task model: every measure of some policies, and what a change of a number does.

Training looks at the fluid model alone, so what matters beside the means is that a change makes both better or both
worse. Abilene, the middle of an evaluation's hours, the same rates in both (draws of tasks are the task model's own).

    python -m experiments.fluid_gap
"""

import sys
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate, world_keys
from torta_jax.schedulers.tuned import with_numbers
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import make_world
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

POLICIES = ("torta", "skylb-engineered", "torta-paper", "skylb")
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


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    seeds: int = 8
    slots: int = 240


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


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
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
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    shown = Table(title="fluid / task model")
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


if __name__ == "__main__":
    main()
