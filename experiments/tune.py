"""Tune the open numbers of policies in the calibrated world: the same objective, and the same budget for every number.

The objective is Eq 1 per task in seconds (`torta_jax.Objective`, drops charged). Seeds are of a stream of their own, so
that nothing here has seen an evaluation's worlds. A search starts in the middle of its ranges, not at numbers found
before: a Halton sequence, then shrinking random steps around the best, in two numbers at a time.

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
from scipy.stats import qmc

from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate
from torta_jax.schedulers.tuned import FILE, with_numbers
from torta_jax.sim.env import Objective
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

STREAM = 2

Numbers = dict[str, dict[str, float]]
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
    trials: int = 6  # for every number of a policy
    refinements: int = 12  # for every number of a policy
    seeds: int = 8
    slots: int = 240


def numbers(space: dict[str, tuple[float, float]], point: np.ndarray) -> Numbers:
    """A point of a space as the numbers of a policy."""
    found: Numbers = {}
    for name, value in zip(space, np.round(point, 3).tolist(), strict=True):
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


def search(name: str, options: Options, console: Console) -> tuple[Numbers, float]:
    """The best numbers of a policy and their cost."""
    cluster, workload, policy = clusters.build("abilene"), Synthetic.create(), schedulers.get(name)
    space, draws = SPACES[name], np.random.default_rng(0)
    low, high = np.array(list(space.values())).T
    best, best_cost = (low + high) / 2, np.inf

    def attempt(point: np.ndarray) -> None:
        nonlocal best, best_cost
        cost = objective(cluster, workload, with_numbers(policy, numbers(space, point)), options)
        if cost < best_cost:
            best, best_cost = point, cost
            console.print(f"{name}: {cost:.3f} s per task", numbers(space, point))

    attempt(best)
    for point in qmc.scale(qmc.Halton(len(space), rng=0).random(options.trials * len(space)), low, high):
        attempt(point)
    for left in np.linspace(1, 0, options.refinements * len(space), endpoint=False):
        step, two = np.zeros(len(space)), draws.choice(len(space), 2, replace=False)
        step[two] = 0.3 * left * (high - low)[two] * draws.standard_normal(2)
        attempt(np.clip(best + step, low, high))
    return numbers(space, best), best_cost


def save(found: dict[str, Numbers], console: Console) -> None:
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
