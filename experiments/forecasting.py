"""How well arrivals can be foretold, and what a forecast is worth: accuracy by horizon, and the paper's Fig 12.

    python -m experiments.forecasting [--out results/forecasting.png]

Accuracy is Eq 12. The predictors have learned from other days on Abilene than those they are judged on; smoothing is
that of `torta`, its numbers tuned; what arrived a day before is judged on whole days. Fig 12: the same worlds with the
coming counts known to a given accuracy, through `torta_jax.learn.forecasts.corrupt`; forecasts are right in the mean
down to 0.2, and at 0.1, which no such forecast can have, too high. What is known is what a policy foretells: the next
slot's counts for `torta-paper`; for `torta` the highest true rate of the next four slots (with surges and noise,
without the luck of the counts), and accuracy is of that. Policies without a forecast are flat lines.
"""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, drawable
from experiments.intervals import with_interval
from torta_jax import cluster as clusters
from torta_jax import schedulers, workload
from torta_jax.errors import require
from torta_jax.evaluate.rollout import world_keys
from torta_jax.files import put
from torta_jax.learn import forecasts, predictor, routing
from torta_jax.learn.recipes import DAY
from torta_jax.plots.style import colours, render, styled
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.heads import Gate
from torta_jax.schedulers.networks import Shares
from torta_jax.schedulers.rules import Outlook, Rules
from torta_jax.sim import fluid
from torta_jax.sim.simulate import advance, start
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, numbers

TOO_HIGH = 0.1
ACCURACIES = (TOO_HIGH, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
FORESEEING, FLAT = ("torta-paper", "torta"), ("skylb", "sdib", "round-robin")
OWN = "its own"
SKIPPED = 20
STREAM = 5
"""Worlds of this experiment."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    seeds: int = 8  # worlds, the same for every policy
    slots: int = 480  # of 45 s each
    out: Path | None = None  # the picture


class Foretold(Rules):
    """A policy that is told what is to come."""

    table: Any = None  # [T, R]

    def look_ahead(self, state: Outlook, observation) -> Outlook:
        """The table's row in place of the smoothed counts."""
        outlook = super().look_ahead(state, observation)
        return outlook.replace(level=self.table[observation.slot], trend=jnp.zeros_like(outlook.trend))


def arrivals(world: World, slots: int) -> jax.Array:
    """[T, R] tasks by origin, as the task model will draw them."""
    regions = jnp.arange(world.cluster.num_regions)

    def count(slot):
        tasks = world.workload.arrivals(world.prepared, world.key, slot)
        return ((tasks.origin[:, None] == regions) & tasks.mask[:, None]).sum(axis=0)

    return lax.map(count, jnp.arange(slots)).astype(float)


def highest_to_come(rate: jax.Array, slots: int) -> jax.Array:
    """[slots, R] the highest rate [T, R] of the next `predictor.HORIZON` slots, the coming one included."""
    padded = jnp.pad(rate[:slots], ((0, predictor.HORIZON - 1), (0, 0)), mode="edge")
    return jnp.stack([padded[ahead : ahead + slots] for ahead in range(predictor.HORIZON)]).max(axis=0)


def yesterday(cluster: Cluster, days: int = 8) -> jax.Array:
    """[H] accuracy of what arrived a day before, on days with another before them."""
    scenario = workload.calm(2 * DAY, cluster.num_regions)

    def one(key):
        world = make_world(cluster, workload.Synthetic.create(), scenario, key, 2 * DAY)
        counts = jax.vmap(partial(fluid.counts, world))(jnp.arange(2 * DAY))
        naive = forecasts.seasonal_naive(counts, predictor.HORIZON, DAY)
        return naive[DAY:], forecasts.ahead(counts, predictor.HORIZON)[DAY:]

    given, true = jax.jit(jax.vmap(one))(world_keys(range(days), STREAM))
    return forecasts.accuracy(jnp.concatenate(list(given)), jnp.concatenate(list(true)))


def accuracies() -> Table:
    """Eq 12 by horizon on held-out days."""
    cluster = clusters.build("abilene")
    day = workload.calm(DAY, cluster.num_regions)
    policy = Actor(**vars(schedulers.get("torta-paper")), head=Gate())
    params = numbers(routing.Params(cluster, workload.Synthetic.create(), day, policy))
    record = jax.jit(partial(predictor.record, params=params))
    seen, judged = record(jax.random.key(0)), record(jax.random.key(1))
    rule = schedulers.get("torta").forecast
    smooth = partial(forecasts.exponential_smoothing, horizon=predictor.HORIZON, level=rule.level, trend=rule.trend)
    oldest_first = judged.arrivals[:, ::-1]
    found = {
        "last value": jax.vmap(lambda x: forecasts.last_value(x, predictor.HORIZON)[-1])(oldest_first),
        "mean of five": jnp.broadcast_to(judged.arrivals.mean(axis=1)[:, None], judged.future.shape),
        "smoothing": jax.vmap(lambda x: smooth(x)[-1])(oldest_first),
    }
    for name, network, loss in (
        ("the paper's, shares", Shares(), predictor.shares_loss),
        ("counts", predictor.Counts(), predictor.counts_loss),
    ):
        parameters, _ = jax.jit(partial(predictor.fit, loss, network))(seen, jax.random.key(2))
        found[name] = predictor.forecast(network, parameters, judged)
    shown = Table(title="prediction accuracy (Eq 12) by slots ahead, Abilene, held-out days")
    shown.add_column("forecast")
    for ahead in range(predictor.HORIZON):
        shown.add_column(f"{ahead + 1}", justify="right")
    each = {name: forecasts.accuracy(given, judged.future[:, : given.shape[1]]) for name, given in found.items()}
    for name, reached in {"a day before": yesterday(cluster), **each}.items():
        shown.add_row(name, *(f"{x:.3f}" for x in reached))
    return shown


@partial(jax.jit, static_argnames=("slots", "physics"))
def play(worlds: World, policies, physics: Physics, slots: int):
    """[seeds] mean response and cost of one policy per world."""

    def one(world, policy):
        metrics = advance(world, physics, policy, start(world, physics, policy), slots, axis_name="clusters")[1]
        total = jax.tree.map(lambda x: x[SKIPPED:].sum(axis=0), metrics)
        return total.response_s / total.completed, total.power_cost_usd, total.dropped.sum()

    return jax.vmap(one, axis_name="clusters")(worlds, policies)


def spread(policy, seeds: int):
    """The same policy for every world."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (seeds, *jnp.shape(x))), numbers(policy))


def figure_12(options: Options, tell) -> dict[str, dict[float | str, Any]]:
    """Response [seeds], cost and drops by policy and accuracy."""
    cluster, scenario = clusters.build("abilene"), workload.calm(options.slots, 12)
    physics = Physics().sized(cluster, workload.Synthetic.create().max_tasks, 4.0)
    make = lambda key: make_world(cluster, workload.Synthetic.create(), scenario, key, options.slots, physics.slot_s)  # noqa: E731
    worlds = jax.jit(jax.vmap(make))(world_keys(range(options.seeds), STREAM))
    true = {
        "torta-paper": jax.jit(jax.vmap(partial(arrivals, slots=options.slots)))(worlds),
        "torta": jax.vmap(partial(highest_to_come, slots=options.slots))(worlds.prepared.rate),
    }
    run = lambda policies: [np.asarray(x) for x in play(worlds, policies, physics, options.slots)]  # noqa: E731
    found: dict[str, dict[float | str, Any]] = {}
    for name in (*FORESEEING, *FLAT):
        begun = time.perf_counter()
        policy = schedulers.get(name)
        found[name] = {OWN: run(spread(policy, options.seeds))}
        for accuracy in ACCURACIES if name in FORESEEING else ():
            kind = "over" if accuracy == TOO_HIGH else "unbiased"
            table = forecasts.corrupt(jax.random.key(3), true[name], accuracy, kind)
            foretold = Foretold(**vars(policy), table=0.0)
            found[name][accuracy] = run(spread(foretold, options.seeds).replace(table=table))
        tell(f"{name}, {time.perf_counter() - begun:.0f} s")
    return found


def tabulate(found: dict[str, dict[float | str, Any]]) -> Table:
    """Response against each policy's own forecast, seed by seed, and beside the best baseline."""
    shown = Table(title="Fig 12: what a forecast is worth, Abilene")
    for column in ("policy", "accuracy", "response s", "than with its own", "cost $", "drops"):
        shown.add_column(column, justify="left" if column == "policy" else "right")
    for name, by_accuracy in found.items():
        own = by_accuracy[OWN][0]
        for accuracy, (response, cost, drops) in by_accuracy.items():
            later = with_interval((response - own)[None]) if accuracy != OWN else ""
            shown.add_row(
                *(name, str(accuracy), f"{response.mean():.2f}", later, f"{cost.mean():.2f}", f"{drops.mean():.0f}")
            )
    return shown


@styled
def draw(found: dict[str, dict[float | str, Any]]) -> Figure:
    """Response over accuracy, in the manner of Fig 12."""
    figure = Figure(figsize=(7.6, 4.0))
    axes, colour = figure.add_subplot(), colours(found)
    for name, by_accuracy in found.items():
        line = ":" if name in FORESEEING else "-"
        axes.axhline(by_accuracy[OWN][0].mean(), color=colour[name], linestyle=line, linewidth=1.2, label=name)
        if name in FORESEEING:
            mean = {accuracy: by_accuracy[accuracy][0].mean() for accuracy in ACCURACIES}
            too_high = mean.pop(TOO_HIGH)
            axes.plot(list(mean), list(mean.values()), "o-", color=colour[name])
            axes.plot(TOO_HIGH, too_high, "o", color=colour[name], fillstyle="none")
    figure.legend(loc="outside right center")
    axes.set_xlabel("accuracy (Eq 12) of what the policy foretells")
    axes.set_ylabel("mean response (s)")
    axes.set_title("dots: forecasts of that accuracy, the open ones too high; dotted: its own")
    return figure


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    require(
        options.slots > SKIPPED, f"--slots = {options.slots}: more than {SKIPPED} are needed, the first do not count"
    )
    if options.out is not None:
        drawable(options.out)
    out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    out.print(accuracies())
    found = figure_12(options, console.print)
    out.print(tabulate(found))
    if options.out is not None:
        put(options.out, render(draw(found), "png"))
        console.print(f"wrote {options.out}")


if __name__ == "__main__":
    answer(main)
