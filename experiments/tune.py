"""Tune the free scalars of policies in the calibrated world, every policy with the same budget and the same objective.

The objective is Eq 1 per task in seconds (`torta_jax.Objective`, drops charged). Seeds are of a stream of their own, so
that nothing here has seen an evaluation's worlds. Prints the best numbers, which then stand in torta_jax/schedulers.

    python -m experiments.tune torta skylb-engineered
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate
from torta_jax.sim.env import Objective
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

STREAM = 2

SCALING = {
    "activation.sigma": (0.0, 2.0),
    "activation.utilisation": (0.6, 1.0),
    "activation.cooldown_s": (0.0, 600.0),
    "forecast.level": (0.1, 1.0),
    "forecast.trend": (0.0, 0.3),
    "forecast.horizon": (0.0, 6.0),
}
EQ_7 = {
    "weights.hardware": (0.0, 1.0),
    "weights.model_locality": (0.0, 0.3),
    "weights.embedding_locality": (0.0, 0.3),
}
ROUTING = {
    "transport.price_weight": (0.0, 2.0),
    "transport.latency_weight": (0.0, 1.0),
    "transport.utilisation": (0.5, 1.0),
    "transport.smoothing": (0.0, 4.0),
}
OVERFLOW = {"rule.keep_below": (0.6, 1.2), "rule.room_below": (0.6, 1.2)}
SPACES = {
    "reactive-ot": EQ_7,
    "reactive-hysteresis": EQ_7 | SCALING,
    "torta-paper": EQ_7,
    "torta": SCALING | ROUTING | OVERFLOW,
    "skylb-engineered": SCALING | OVERFLOW,
}
"""What may be tuned: `torta-paper` and `reactive-ot` keep the paper's scaling, Eq 7's weights alone are free."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    policies: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SPACES)
    trials: int = 40
    refinements: int = 40
    seeds: int = 4
    slots: int = 240


def replaced(policy, numbers: dict[str, float]):
    """The policy with leaves given by dotted names."""
    for name, value in numbers.items():
        part, leaf = name.split(".")
        policy = policy.replace(**{part: getattr(policy, part).replace(**{leaf: value})})
    return policy


def objective(cluster, workload, policy, options: Options) -> float:
    """Mean cost in seconds per task."""
    scenario = calm(options.slots, cluster.num_regions)
    episode = evaluate(cluster, workload, scenario, {"it": policy}, options.seeds, options.slots, stream=STREAM)["it"]
    totals = jax.tree.map(lambda x: x.sum(axis=1), episode.slots).replace(
        switching_cost=episode.slots.switching_cost.mean(axis=1)
    )
    return float(np.mean(Objective().cost(totals)))


def search(name: str, options: Options, console: Console) -> dict[str, float]:
    """Random search, then shrinking random steps around the best."""
    cluster, workload = clusters.build("abilene"), Synthetic.create()
    space, draws = SPACES[name], np.random.default_rng(0)
    low, high = np.array(list(space.values())).T
    best: dict[str, float] = {}
    start = best_value = objective(cluster, workload, schedulers.get(name), options)
    for trial in range(options.trials + options.refinements):
        if trial < options.trials or not best:
            point = low + (high - low) * draws.random(len(space))
        else:
            width = 0.25 * (high - low) * (1 - (trial - options.trials) / options.refinements)
            point = np.clip(np.array(list(best.values())) + width * draws.standard_normal(len(space)), low, high)
        numbers = dict(zip(space, np.round(point, 3).tolist(), strict=True))
        value = objective(cluster, workload, replaced(schedulers.get(name), numbers), options)
        if value < best_value:
            best, best_value = numbers, value
    console.print(f"{name}: {start:.3f} -> {best_value:.3f} s per task", best)
    return best


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    for name in options.policies:
        search(name, options, Console())


if __name__ == "__main__":
    main()
