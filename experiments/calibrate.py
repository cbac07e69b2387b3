"""Fit the numbers the paper leaves open to its baselines on Abilene, and to nothing else.

Targets are the waiting and inference times of RR, SkyLB and SDIB in Fig 11. (Fig 8 shows responses 1.7 to 2.2 s longer
than the sums of Fig 11; both cannot be matched.) TORTA, in any preset, is never run here. The baselines are tuned in
the fitted world as every policy is (`experiments.tune`), and the world is fitted again to the tuned baselines: a weak
baseline would make any gain an artefact. Seeds are of a stream of their own. Hours, noise and popularity are not
fitted: docs/decisions.md says why.

    python -m experiments.calibrate            # half an hour on 2 cores; rewrites calibration.toml
    python -m experiments.tune                 # then tune every policy in the new world
"""

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from rich.console import Console

from experiments import answer, asked, tune
from experiments.search import Numbers, at_an_edge, minimise
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.calibration import FILE, Calibration
from torta_jax.evaluate.episode import measures
from torta_jax.evaluate.rollout import Shortage, evaluate
from torta_jax.schedulers.tuned import TUNED, with_numbers
from torta_jax.types import Cluster
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

TARGETS = {"round-robin": (1.48, 17.8), "skylb": (1.10, 15.9), "sdib": (1.05, 16.9)}
"""Waiting and inference seconds, read off Fig 11 for Abilene."""

TOLERANCE = (0.4, 0.03)
"""Shares by which waiting and inference may be too long, half a second of either, and weigh the same."""

SHORTEST_S = 1e-3
"""A shorter time counts as this."""

GIVEN = {
    "start_hour_utc": 12.0,
    "noise_sigma": 0.2,
    "zipf_exponent": 1.0,
}
"""Chosen, not fitted (docs/decisions.md)."""

BOX = {
    "load": (0.4, 0.8),
    "work_mean_s": (6.0, 16.0),
    "speed_spread": (0.3, 1.0),
    "mismatch": (0.5, 1.0),
    "switch_factor": (0.02, 0.4),
}
"""Ranges searched. The spread's lower end limits how much more a T4 does per joule than an H100."""

STREAM = 1

Tuned = dict[str, Numbers]
"""Baseline -> its numbers, by dotted names."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    evaluations: int = 60  # of the loss, all over the box; half as many near the best
    seeds: int = 8
    slots: int = 480


def things(world: Calibration, seed: int = 0) -> tuple[Cluster, Synthetic]:
    """Abilene, its fleet placed by the seed, and its arrivals in a world."""
    cluster = clusters.build(
        "abilene",
        speed_spread=world.speed_spread,
        mismatch=world.mismatch,
        switch_factor=world.switch_factor,
        seed=seed,
    )
    workload = Synthetic.create(
        load=world.load,
        start_hour_utc=world.start_hour_utc,
        work_low_s=world.work_low_s,
        work_high_s=world.work_high_s,
        zipf_exponent=world.zipf_exponent,
        noise_sigma=world.noise_sigma,
    )
    return cluster, workload


def run(world: Calibration, tuned: Tuned, options: Options) -> dict[str, dict[str, float]]:
    """Mean measures of the baselines in a world."""
    cluster, workload = things(world)
    policies = {name: with_numbers(schedulers.get(name), tune.nested(tuned.get(name, {}))) for name in TARGETS}
    scenario = calm(options.slots, cluster.num_regions)
    episodes = evaluate(cluster, workload, scenario, policies, options.seeds, options.slots, stream=STREAM)
    return {
        name: {key: float(value.mean()) for key, value in measures(episode).items()}
        for name, episode in episodes.items()
    }


def loss(measured: dict[str, dict[str, float]]) -> float:
    """Mean squared error against Fig 11, in tolerances.

    Errors are ratios. Differences would call a fleet in which nothing queues a near miss: its waits are but a second
    too short.
    """
    reached = [[max(measured[name][metric], SHORTEST_S) for metric in ("wait_s", "inference_s")] for name in TARGETS]
    ratios = np.log(np.array(reached) / list(TARGETS.values()))
    return float(np.mean(np.square(ratios / np.log1p(TOLERANCE))))


def fit(tuned: Tuned, options: Options, console: Console, evaluations: int, **how) -> Calibration:
    """The world of the box that fits best, the baselines as they are; `how` as in `minimise`."""
    best, value = minimise(lambda numbers: loss(run(world_of(numbers), tuned, options)), BOX, evaluations, **how)
    edges = at_an_edge(best, BOX)
    console.print(f"loss {value:.3f}", best, f"at the end of a range: {edges}" if edges else "")
    return world_of(best)


def world_of(numbers: Numbers) -> Calibration:
    """A world of the box."""
    return Calibration(**GIVEN, **numbers)


def tune_baselines(world: Calibration, console: Console) -> Tuned:
    """The baselines' own numbers in a world, found as `experiments.tune` finds them."""
    found: Tuned = {}
    options = tune.Options(policies=tuple(TARGETS))
    tune.search_all(*things(world, tune.PLACEMENT), options, console, found.__setitem__)
    return found


def save(world: Calibration, measured: dict[str, dict[str, float]]) -> None:
    """Write calibration.toml, with what was reached as comments."""
    lines = ["# Written by `python -m experiments.calibrate`; docs/decisions.md says why. Seconds, reached / Fig 11:"]
    for name, (wait, inference) in TARGETS.items():
        got = measured[name]
        lines.append(
            f"# {name:12s} wait {got['wait_s']:5.2f} / {wait:5.2f}, "
            f"inference {got['inference_s']:5.2f} / {inference:5.2f}"
        )
    lines += [f"{field.name} = {getattr(world, field.name)!r}" for field in fields(world)]
    FILE.write_text("\n".join(lines) + "\n")


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    TUNED.clear()
    warnings.simplefilter("ignore", Shortage)  # in worlds that are tried; of the one that is kept it is told
    middle = world_of({name: (low + high) / 2 for name, (low, high) in BOX.items()})
    world = fit(tune_baselines(middle, console), options, console, options.evaluations)
    near: dict[str, Any] = {"start": {name: getattr(world, name) for name in BOX}, "width": 0.07}
    world = fit(tune_baselines(world, console), options, console, options.evaluations // 2, **near)
    tuned = tune_baselines(world, console)
    warnings.simplefilter("always", Shortage)
    save(world, run(world, tuned, replace(options, seeds=16)))
    console.print(FILE.read_text())


if __name__ == "__main__":
    answer(main)
