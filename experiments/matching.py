"""What the micro layer gains: `torta` with other ways to match tasks and servers, in the same worlds.

Algorithm 1's greedy (Eq 7), earliest finish, earliest finish with prices of an auction or with the toll on busy
servers; where the slot's tasks are known at its start, also the auction in windows. Differences are against earliest
finish, on seeds that nothing was tuned on.

    python -m experiments.matching                  # every load, both information models
    python -m experiments.matching --load 0.6
"""

import sys
import time
import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from experiments import answer, asked
from experiments.intervals import bracketed
from torta_jax import auction, schedulers
from torta_jax import cluster as clusters
from torta_jax.evaluate.compare import paired
from torta_jax.evaluate.episode import measures
from torta_jax.evaluate.rollout import Shortage, evaluate
from torta_jax.schedulers.rules import Outlook, Toll
from torta_jax.workload import Synthetic
from torta_jax.workload import scenario as scenarios

FIRST_SEED = 1000
REFERENCE = "earliest finish"
SURGE_SLOTS = 40
ROWS, ROUNDS = 64, 10
"""Tasks of a region that may bid among the expected ones of a slot, and rounds of bidding in it."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    load: tuple[float, ...] = (0.5, 0.6, 0.8)
    surge: float = 2.5  # factor of a surge of half an hour at the first load; 0 for none
    information: tuple[str, ...] = ("online", "slot")
    seeds: int = 16
    slots: int = 240


class AuctionPrices(schedulers.Rules):
    """Earliest finish with the prices of an auction among the tasks that the last slot lets expect.

    A static auction per region and slot, which goes on from the last one's prices: as many tasks as were sent there, of
    every kind alike and half to one and a half times as long as the mean; a server that was busy has room for what it
    serves in a slot. Its price per place, over a task's lane time, takes the place of busy² as a moving average.
    """

    def route(self, state: Outlook, observation):
        old = state.busy**2
        state, matrix = super().route(state, observation)
        price = old + self.toll.newest * (self.prices(old, observation) - old)
        return state.replace(busy=jnp.sqrt(price)), matrix

    def prices(self, old: jax.Array, observation) -> jax.Array:
        """[R, S] per second of lane time."""
        cluster, on = observation.cluster, observation.server_utilisation > 0
        seconds = 1 / (cluster.kind_match * cluster.decode_speed)  # [3, R, S]
        mean = jnp.where(on, seconds, 0.0).sum(axis=(0, 2)) / jnp.maximum(3 * on.sum(axis=-1), 1)
        seconds = seconds * (observation.service_s / jnp.maximum(mean, 1e-9))[:, None]
        tasks = jnp.round(observation.arrivals @ observation.shares)
        room = cluster.lane_mask.sum(axis=-2) * observation.slot_s / observation.service_s[:, None]
        room = room * jnp.minimum(1.0, ROWS / jnp.maximum(tasks, 1.0))[:, None]  # where not all can bid
        room = jnp.where(on, jnp.maximum(jnp.round(room), 1.0), 0).astype(jnp.int32)
        length = jnp.linspace(0.5, 1.5, ROWS)[:, None]

        def solve(seconds, room, tasks, start):
            here = jnp.arange(ROWS) * tasks // ROWS != (jnp.arange(ROWS) - 1) * tasks // ROWS  # spread over the lengths
            value = -seconds[jnp.cumsum(here) % 3] * length
            outside = jnp.full(ROWS, -2 * observation.slot_s)
            limits = {"init_price": start, "epsilon": 1e-2, "max_rounds": ROUNDS}
            return auction.solve(value, room, outside=outside, task_mask=here, **limits).price

        place_s = observation.service_s[:, None]
        return jax.vmap(solve, in_axes=(1, 0, 0, 0))(seconds, room, tasks, old * place_s) / place_s


def variants(information: str) -> dict[str, schedulers.Rules]:
    """`torta` with other micro layers; the reference first."""
    torta = schedulers.get("torta").replace(by_auction=False)
    finish = torta.replace(toll=Toll())
    greedy = finish.replace(weights=schedulers.get("torta-paper").weights, by_urgency=True)
    named = {REFERENCE: finish, "Algorithm 1's greedy": greedy, "with the toll": torta}
    if information == "online":
        return named | {"with an auction's prices": AuctionPrices(**vars(torta.replace(toll=Toll(weight=1.0))))}
    return named | {
        "auction in windows": finish.replace(by_auction=True),
        "auction in windows, toll": torta.replace(by_auction=True),
    }


def compare(load: float, surge: float, information: str, options: Options) -> Table:
    """One world, one information model."""
    cluster, workload = clusters.build("abilene"), Synthetic.create(load=load)
    events = [scenarios.Surge(options.slots // 3, SURGE_SLOTS, surge)] if surge else []
    scenario = scenarios.compile(events, options.slots, cluster.num_regions)
    seeds, found, per_slot = range(FIRST_SEED, FIRST_SEED + options.seeds), {}, {}
    for name, policy in variants(information).items():

        def run(seeds, policy=policy):
            return evaluate(cluster, workload, scenario, {"it": policy}, seeds, options.slots, information=information)[
                "it"
            ]

        run(seeds[:1])  # compiles
        begin = time.perf_counter()
        found[name] = measures(run(seeds))
        per_slot[name] = (time.perf_counter() - begin) / (options.seeds * options.slots)
    title = f"load {load:g}{f', surge of {surge:g}' if surge else ''}, {information}"
    return tabulate(title, found, per_slot)


def tabulate(title: str, found, per_slot) -> Table:
    """Own numbers, and paired differences against the reference with 95 % bootstrap intervals."""
    table = Table(title=title)
    for column in ("matching", "response s", "difference", "p99 s", "wait s", "cost", "drops", "ms/slot"):
        table.add_column(column, justify="left" if column == "matching" else "right")
    differences = paired(found, REFERENCE)
    for name, own in found.items():
        cost = own["power_cost_usd"].mean() / found[REFERENCE]["power_cost_usd"].mean() - 1
        cell = differences[name]["response_s"] if name in differences else None
        table.add_row(
            name,
            f"{own['response_s'].mean():.2f}",
            bracketed(cell.difference, cell.low, cell.high) if cell else "",
            f"{own['response_p99_s'].mean():.1f}",
            f"{own['wait_s'].mean():.2f}",
            f"{cost:+.1%}",
            f"{own['dropped'].mean():.0f}",
            f"{1e3 * per_slot[name]:.2f}",
        )
    return table


def main() -> None:
    options = asked(Options, __doc__)
    warnings.simplefilter("ignore", Shortage)  # drops are in the table
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    worlds = [(load, 0.0) for load in options.load] + ([(options.load[0], options.surge)] if options.surge else [])
    for load, surge in worlds:
        for information in options.information:
            console.print(compare(load, surge, information, options))
            sys.stdout.flush()


if __name__ == "__main__":
    answer(main)
