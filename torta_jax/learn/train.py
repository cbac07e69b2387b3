"""Training on the host, update by update: progress, checkpoints, resuming, a stop where a number is not finite."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import lax

from torta_jax.learn import checkpoint
from torta_jax.learn.recipes import Recipe, Update

SAVE_EVERY_S = 30.0
"""Between two checkpoints."""

Row = dict[str, float]
Tell = Callable[[int, int, Row], None]
"""Called with the updates done, those in all, and the last one's numbers."""


class NotFinite(RuntimeError):
    """A number that is logged is not finite; the state before that update is kept."""


class Trained(NamedTuple):
    """How far training has come."""

    state: Any
    log: list[Row]


def train(
    update: Update,
    numbers: Any,
    state: Any,
    updates: int,
    *,
    log: list[Row] | None = None,
    keep: Callable[[Trained], None] = lambda trained: None,
    tell: Tell = lambda done, updates, row: None,
) -> Trained:
    """Update until `updates` are done in all.

    Args:
        update: one step, as a recipe's.
        state: where to go on from; its number of updates says how many are done.
        log: rows of those.
        keep: called now and then and at the end, also where an interruption or a number that is not finite is the end.

    Raises:
        NotFinite: naming the quantity and the update.
    """
    trained = Trained(state, list(log or []))
    saved = time.monotonic()
    try:
        for done in range(int(state.updates), updates):
            new, seen = update(trained.state, numbers)
            row = {name: float(value) for name, value in seen.items()}
            bad = [name for name, value in row.items() if not math.isfinite(value)]
            if bad:
                kept = "; the state before it is kept" if done else ""
                raise NotFinite(f"update {done + 1}: {', '.join(bad)} not finite{kept}")
            trained = Trained(new, [*trained.log, {"update": done + 1, **row}])
            tell(done + 1, updates, row)
            if time.monotonic() - saved > SAVE_EVERY_S:
                keep(trained)
                saved = time.monotonic()
    finally:
        keep(trained)
    return trained


def make_train(recipe: Recipe, updates: int) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """A whole training as one function, `train(key, numbers=recipe.numbers) -> state, log` with logs [updates].

    Pure: jit it, vmap it over keys (seeds) or over numbers (hyperparameters, traced; those of `recipes`' learners).
    """

    def train(key: jax.Array, numbers: Any = recipe.numbers) -> tuple[Any, dict[str, jax.Array]]:
        begin = recipe.learner.init(key)
        return lax.scan(lambda state, _: recipe.learner.update(state, numbers), begin, None, updates)

    return train


def keep_in(directory: Path, facts: dict[str, Any], write: Callable[[Trained], None]) -> Callable[[Trained], None]:
    """Saves a checkpoint, and what else `write` writes, unless nothing was done."""

    def keep(trained: Trained) -> None:
        if int(trained.state.updates):
            write(trained)
            checkpoint.save(directory, int(trained.state.updates), trained.state, facts)

    return keep
