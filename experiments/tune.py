"""Tune the open numbers of policies in the calibrated world: the same objective, and the same budget for every number.

The objective is Eq 1 per task in seconds (`torta_jax.Objective`, drops charged). Seeds are of a stream of their own, so
that nothing here has seen an evaluation's worlds. A search starts in the middle of its ranges, not at numbers found
before.

    python -m experiments.tune                 # twenty minutes on 2 cores; rewrites torta_jax/schedulers/tuned.toml
    python -m experiments.tune torta           # this policy alone, the others' numbers stay
"""

import tomllib
from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments.search import Numbers, minimise
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate
from torta_jax.schedulers.tuned import FILE, with_numbers
from torta_jax.sim.env import Objective
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

STREAM = 2

Parts = dict[str, dict[str, float]]
"""Part of a policy -> leaf -> number."""

FORECAST = {"forecast.level": (0.02, 1.0), "forecast.trend": (0.0, 0.5)}
SCALING = {
    "activation.sigma": (0.0, 6.0),
    "activation.utilisation": (0.4, 1.2),
    "activation.cooldown_s": (0.0, 900.0),
    "forecast.horizon": (0.0, 6.0),
}
EQ_7 = {
    "weights.hardware": (0.0, 2.0),
    "weights.model_locality": (0.0, 0.3),
    "weights.embedding_locality": (0.0, 0.3),
}
ROUTING = {
    "transport.latency_weight": (0.0, 2.0),
    "transport.utilisation": (0.4, 1.0),
    "transport.smoothing": (0.0, 12.0),
}
"""The weight of the price is 1: the entropy is relative to the mean cost, so that only their ratio matters."""
OVERFLOW = {"rule.keep_below": (0.2, 1.5), "rule.room_below": (0.2, 1.5)}
SPACES = {
    "reactive-ot": EQ_7,
    "reactive-hysteresis": EQ_7 | FORECAST | SCALING,
    "torta-paper": EQ_7 | FORECAST | {"activation.sigma": (0.0, 6.0), "transport.smoothing": (0.0, 12.0)},
    "torta": FORECAST | SCALING | ROUTING | OVERFLOW,
    "skylb-engineered": FORECAST | SCALING | OVERFLOW,
}
"""What may be tuned. `reactive-ot` scales on the last count as the paper's baselines do; `torta-paper` has what the
paper names and gives no value for."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    policies: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SPACES)
    evaluations: int = 18  # for every number of a policy
    seeds: int = 8
    slots: int = 240


def parts(numbers: Numbers) -> Parts:
    """Numbers by dotted names as parts and leaves of a policy."""
    found: Parts = {}
    for name, value in numbers.items():
        part, leaf = name.split(".")
        found.setdefault(part, {})[leaf] = value
    return found


def objective(cluster, workload, policy, options: Options) -> float:
    """Mean cost in seconds per task."""
    scenario = calm(options.slots, cluster.num_regions)
    episode = evaluate(cluster, workload, scenario, {"it": policy}, options.seeds, options.slots, stream=STREAM)["it"]
    totals = jax.tree.map(lambda x: x.sum(axis=1), episode.slots).replace(
        switching_cost=episode.slots.switching_cost.mean(axis=1)
    )
    return float(np.mean(Objective().cost(totals)))


def search(name: str, options: Options, console: Console) -> tuple[Parts, float]:
    """The best numbers of a policy and their cost."""
    cluster, workload, policy = clusters.build("abilene"), Synthetic.create(), schedulers.get(name)
    best, cost = minimise(
        lambda numbers: objective(cluster, workload, with_numbers(policy, parts(numbers)), options),
        SPACES[name],
        options.evaluations * len(SPACES[name]),
        tell=lambda numbers, cost: console.print(f"{name}: {cost:.3f} s per task", numbers),
    )
    return parts(best), cost


def save(found: dict[str, Parts], console: Console) -> None:
    """Put the numbers of some policies into `tuned.toml`, in the order of SPACES."""
    every = tomllib.loads(FILE.read_text()) | found
    lines = ["# Written by `python -m experiments.tune`; torta_jax/schedulers/tuned.py says how it is read."]
    for name in sorted(every, key=list(SPACES).index):
        for part, leaves in every[name].items():
            lines += ["", f"[{name}.{part}]", *(f"{leaf} = {value!r}" for leaf, value in leaves.items())]
    FILE.write_text("\n".join(lines) + "\n")
    console.print(FILE.read_text())


def main() -> None:
    options, console = tyro.cli(Options, description=__doc__), Console(stderr=True, highlight=False)
    for name in options.policies:
        found, cost = search(name, options, console)
        save({name: found}, console)
        console.print(f"{name}: {cost:.3f} s per task")


if __name__ == "__main__":
    main()
