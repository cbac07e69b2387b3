"""Where the gain of `torta` comes from: each part replaced by a baseline's, one at a time, on the default world; and
what a network adds to it (`torta-learned`), each of its corrections left out in turn.

python -m experiments.ablation
"""

import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from experiments import answer, asked
from experiments.intervals import bracketed
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate.compare import paired
from torta_jax.evaluate.episode import Episode, measures
from torta_jax.evaluate.rollout import evaluate
from torta_jax.schedulers.learned import CORRECTIONS
from torta_jax.schedulers.rules import Forecast, Toll
from torta_jax.sim.dispatch import Rule
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import calm

NETWORK = "torta-learned"

COLUMNS = {
    "objective_s_per_task": "Eq 1 s/task",
    "response_s": "response s",
    "power_cost_usd": "cost $",
    "overhead_s_per_task": "overhead s/task",
}


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    seeds: int = 16  # worlds, the same for every policy
    slots: int = 480  # of 45 s each


class Partial(schedulers.Learned):
    """A network of which some corrections are kept."""

    kept: Any = None  # [len(CORRECTIONS)] 1 or 0

    def correct(self, outlook, surprise, observation) -> jax.Array:
        """Those that are kept."""
        return super().correct(outlook, surprise, observation) * self.kept


def with_network() -> dict[str, schedulers.Rules]:
    """`torta-learned`, then without one of its corrections."""
    learned = schedulers.get("torta-learned")
    found: dict[str, schedulers.Rules] = {NETWORK: learned}
    for index, correction in enumerate(CORRECTIONS):
        kept = jnp.ones(len(CORRECTIONS)).at[index].set(0.0)
        found[f"the network's {correction}"] = Partial(**vars(learned), kept=kept)
    return found


def variants() -> dict[str, schedulers.Rules]:
    """`torta` first, then without one of its parts."""
    torta, paper, skylb = (schedulers.get(name) for name in ("torta", "torta-paper", "skylb"))
    return {
        "torta": torta,
        "price ignored": torta.replace(transport=torta.transport.replace(price_weight=0.0)),
        "no smoothing of the matrix": torta.replace(transport=torta.transport.replace(smoothing=0.0)),
        "no overflow of full regions": torta.replace(rule=Rule()),
        "no toll on busy servers": torta.replace(toll=Toll()),
        "Eq 7 instead of earliest finish": torta.replace(weights=paper.weights, toll=Toll()),
        "SkyLB's scaling, on the last count": torta.replace(forecast=Forecast(), activation=skylb.activation),
        "demand not smoothed": torta.replace(forecast=Forecast()),
        "no look-ahead": torta.replace(forecast=torta.forecast.replace(trend=0.0, horizon=0.0)),
    }


def table(episodes: dict[str, Episode], reference: str) -> Table:
    """Paired differences against one of the policies."""
    shown = Table("without", *COLUMNS.values(), title=f"Difference against {reference}, 95 % intervals over seeds")
    for name, metrics in paired({name: measures(episode) for name, episode in episodes.items()}, reference).items():
        cells = (metrics[metric] for metric in COLUMNS)
        shown.add_row(name, *(bracketed(c.difference, c.low, c.high) for c in cells))
    return shown


def main() -> None:
    options = asked(Options, __doc__)
    cluster = clusters.build("abilene")
    scenario = calm(options.slots, cluster.num_regions)
    progress = Console(stderr=True)
    episodes = evaluate(
        cluster,
        Synthetic.create(),
        scenario,
        variants() | with_network(),
        options.seeds,
        options.slots,
        progress=lambda name, done, slots: progress.print(f"{name}: {done} of {slots} slots", highlight=False),
    )
    out = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for reference, names in (("torta", variants()), (NETWORK, with_network())):
        out.print(table({name: episodes[name] for name in {"torta": None} | names}, reference))


if __name__ == "__main__":
    answer(main)
