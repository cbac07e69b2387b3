"""Speed of learning: updates of PPO with every head on Abilene, and of the slope through the fluid model.

    python -m experiments.benchmarks.learning [--json]

A slot counts once, whatever is done with it: drawing, the fluid model, epochs, slopes. What is done before an episode
counts for none, but takes its time. Compiling is not counted.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from experiments import answer
from experiments.benchmarks.stopwatch import Contestant, race
from torta_jax.learn import recipes
from torta_jax.schedulers import heads

PATHWISE = "pathwise"


@dataclass(frozen=True)
class Options:
    """Size of the benchmark."""

    heads: tuple[str, ...] = heads.NAMES
    envs: int = 64
    steps: int = 30
    worlds: int = 32
    slots: int = 60
    repeats: int = 5
    json: bool = False


def contestant(name: str, recipe: recipes.Recipe, batch: int, num_slots: int) -> Contestant:
    """The updates of the first episode, with the reset before it; through the fluid model every update is one."""
    updates = getattr(recipe.learner.sizes, "episode_updates", 1)
    begin = jax.block_until_ready(jax.jit(recipe.learner.init)(jax.random.key(0)))

    def run() -> int:
        state = begin
        for _ in range(updates):
            state, _ = recipe.update(state, recipe.numbers)
        jax.block_until_ready(state)
        return 0

    return Contestant(name, batch, updates * num_slots, run)


def benchmark(options: Options, tell) -> dict[str, dict[str, Any]]:
    """Slots per second of each, by name."""
    contestants = []
    for head in options.heads:
        tell(f"compiling: {head}")
        recipe = recipes.torta_paper(
            topology="abilene",
            head=head,
            rule="exponential",
            envs=options.envs,
            steps=options.steps,
            learning_rate=3e-4,
        )
        contestants.append(contestant(head, recipe, options.envs, options.steps))
    recipe = recipes.torta(
        updates=100,
        worlds=options.worlds,
        slots=options.slots,
        regions=12,
        servers=24,
        kinds=tuple(recipes.KINDS),
        learning_rate=1e-3,
    )
    contestants.append(contestant(PATHWISE, recipe, options.worlds, options.slots))
    times = race(contestants, options.repeats, tell)
    return {
        one.name: {"slots_per_s": one.cluster_slots / time.median_s, "median_s": time.median_s, "worst_s": time.worst_s}
        for one, time in times.items()
    }


def main() -> None:
    options, console = tyro.cli(Options, description=__doc__), Console(stderr=True, highlight=False)
    found = benchmark(options, console.print)
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        return
    table = Table(title="all updates of an episode")
    for column in ("learner", "slots/s", "median s", "worst s"):
        table.add_column(column, justify="left" if column == "learner" else "right")
    for name, row in found.items():
        table.add_row(name, f"{row['slots_per_s']:,.0f}", f"{row['median_s']:.3f}", f"{row['worst_s']:.3f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    answer(main)
