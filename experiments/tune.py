"""Tune the open numbers of every policy in the calibrated world: one objective, one budget for every number.

The objective is Eq 1 per task in seconds (`torta_jax.Objective`, drops charged), for the baselines as for TORTA.
Neither the seeds nor the placement of the fleet are those of an evaluation. A search does not start from numbers found
before.

    python -m experiments.tune            # half an hour on 2 cores; rewrites torta_jax/schedulers/tuned.toml
    python -m experiments.tune torta      # this policy alone, the others' numbers stay
"""

import tomllib
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments import answer, asked
from experiments.search import Numbers, at_an_edge, minimise
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.cores import cores
from torta_jax.evaluate.rollout import Shortage, evaluate
from torta_jax.schedulers.tuned import FILE, TUNED, with_numbers
from torta_jax.sim.env import Objective
from torta_jax.sim.state import Physics
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

STREAM = 2
PLACEMENT = 101
EVALUATED_SLOTS = 480

EQ_6 = {"activation.sigma": (0.0, 12.0), "activation.cooldown_s": (0.0, 900.0)}
"""The paper wants servers switched gradually, and does not say how: a cool-down, for every policy."""

FORECAST = {"forecast.level": (0.02, 1.0), "forecast.trend": (0.0, 0.5)}
SCALING = {**EQ_6, "activation.utilisation": (0.3, 1.5), "forecast.horizon": (0.0, 6.0)}
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
TOLL = {"toll.weight": (0.0, 3.0)}
SPACES: dict[str, dict[str, tuple[float, float]]] = {
    "round-robin": {"max_wait_s": (0.0, 45.0), **EQ_6},
    "skylb": OVERFLOW | EQ_6,
    "sdib": {"max_wait_s": (0.0, 90.0), **EQ_6},
    "skylb-engineered": FORECAST | SCALING | OVERFLOW | TOLL,
    "reactive-ot": EQ_7 | EQ_6,
    "reactive-hysteresis": EQ_7 | FORECAST | SCALING,
    "torta-paper": EQ_7 | FORECAST | EQ_6 | {"transport.smoothing": (0.0, 12.0)},
    "torta": FORECAST | SCALING | ROUTING | OVERFLOW | TOLL,
}
"""What a policy's paper names and gives no value for; all of its scaling for those that are not a paper's."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    policies: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SPACES)
    evaluations: int = 15  # for every number of a policy
    seeds: int = 8
    slots: int = 240


def nested(numbers: Numbers) -> dict[str, Any]:
    """Numbers by dotted names as `with_numbers` takes them."""
    found: dict[str, Any] = {}
    for name, value in numbers.items():
        *part, leaf = name.split(".")
        (found.setdefault(part[0], {}) if part else found)[leaf] = value
    return found


def objective(cluster, workload, policy, options: Options) -> float:
    """Mean cost in seconds per task, in the middle of an evaluation's hours."""
    scenario = calm(options.slots, cluster.num_regions)
    skipped_h = (EVALUATED_SLOTS - options.slots) / 2 * Physics().slot_s / 3600
    workload = workload.replace(start_hour_utc=workload.start_hour_utc + skipped_h)
    episode = evaluate(cluster, workload, scenario, {"it": policy}, options.seeds, options.slots, stream=STREAM)["it"]
    totals = jax.tree.map(lambda x: x.sum(axis=1), episode.slots).replace(
        switching_cost=episode.slots.switching_cost.mean(axis=1)
    )
    return float(np.mean(Objective().cost(totals)))


def search(name: str, cluster, workload, options: Options, console: Console) -> Numbers:
    """The best numbers of a policy, by dotted names."""
    TUNED.pop(name, None)  # from here on the policy is as its paper leaves it
    policy, space = schedulers.get(name), SPACES[name]
    best, cost = minimise(
        lambda numbers: objective(cluster, workload, with_numbers(policy, nested(numbers)), options),
        space,
        options.evaluations * len(space),
    )
    edges = at_an_edge(best, space)
    console.print(f"{name}: {cost:.3f} s per task", best, f"at the end of a range: {edges}" if edges else "")
    return best


def search_all(cluster, workload, options: Options, console: Console, keep: Callable[[str, Numbers], None]) -> None:
    """Search for every policy of the options, side by side; `keep` is called with what was found, in order."""
    with ThreadPoolExecutor(cores()) as threads:
        found = threads.map(lambda name: search(name, cluster, workload, options, console), options.policies)
        for name, numbers in zip(options.policies, found, strict=True):
            keep(name, numbers)


def save(name: str, numbers: Numbers) -> None:
    """Put the numbers of a policy into `tuned.toml`, in the order of SPACES."""
    every = tomllib.loads(FILE.read_text()) | {name: nested(numbers)}
    lines = ["# Written by `python -m experiments.tune`; torta_jax/schedulers/tuned.py says how it is read."]
    for policy in sorted(every, key=list(SPACES).index):
        own = {leaf: value for leaf, value in every[policy].items() if not isinstance(value, dict)}
        tables = {policy: own} if own else {}
        tables |= {f"{policy}.{part}": leaves for part, leaves in every[policy].items() if part not in own}
        for table, leaves in tables.items():
            lines += ["", f"[{table}]", *(f"{leaf} = {value!r}" for leaf, value in leaves.items())]
    FILE.write_text("\n".join(lines) + "\n")


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    warnings.simplefilter("ignore", Shortage)  # drops are charged
    cluster = clusters.build("abilene", seed=PLACEMENT)
    search_all(cluster, Synthetic.create(), options, console, save)


if __name__ == "__main__":
    answer(main)
