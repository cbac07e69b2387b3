"""No task is lost silently: exact counts per slot, region and kind, in worlds and under policies drawn at random."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import (
    FLEETS,
    SHARED,
    Size,
    fleets,
    play,
    random_policies,
    random_policy,
    recorded,
    run_world,
)
from torta_jax.sim.account import DROPS, OUTCOMES
from torta_jax.sim.slot import SlotRecord

ENDED = np.array([0, *range(DROPS, len(OUTCOMES))])
HELD = np.arange(1, DROPS)

ROOMY = Size(regions=3, servers=2, lanes=1, slots=10, max_tasks=96, carry_tasks=96, region_tasks=48, embedding=1)
TIGHT = Size(regions=3, servers=2, lanes=2, slots=10, max_tasks=20, carry_tasks=12, region_tasks=5, embedding=1)
CHUNK = 1000
BATCHES = 16


def books(record: SlotRecord):
    """Arrivals, and tasks by outcome."""
    return record.arrived, record.counts


@jax.vmap
def violations(totals, metrics, arrived, counts):
    """By how much a world's books do not balance, and which outcomes were seen in it."""
    held = counts[:, HELD].sum(axis=1)  # [T, R, 3]
    before = jnp.concatenate([jnp.zeros_like(held[:1]), held[:-1]])
    per_slot = before + arrived - counts[:, ENDED].sum(axis=1) - held
    whole = totals.arrived - totals.completed - totals.dropped.sum(axis=0) - held[-1]
    reported = metrics.arrived - arrived.sum(axis=(1, 2))
    named = jnp.stack([metrics.completed, metrics.running, metrics.queued, metrics.buffered], axis=1)
    named = jnp.concatenate([named, metrics.dropped], axis=1) - counts.sum(axis=(2, 3))
    binned = totals.histogram.sum(axis=1) - totals.completed.sum()
    wrong = [jnp.abs(x).sum() for x in (per_slot, whole, reported, named, binned)]
    negative = (counts < 0).sum() + (arrived < 0).sum()
    return jnp.stack([*wrong, negative]), counts.sum(axis=(0, 2, 3)) > 0


def check(found) -> dict[str, int]:
    """Raise unless all books balance; in how many worlds each outcome was seen."""
    wrong, seen = (np.concatenate(parts) for parts in zip(*found, strict=True))
    names = ("a slot's books", "the episode's books", "arrivals", "metrics", "histograms", "negative counts")
    assert not wrong.any(), dict(zip(names, wrong.sum(axis=0).tolist(), strict=True))
    return dict(zip(OUTCOMES, seen.sum(axis=0).tolist(), strict=True))


def test_every_task_is_accounted_for_whatever_the_policy():
    def found(key):
        keys = jax.random.split(key, FLEETS)
        policies = random_policies(jax.random.split(jax.random.fold_in(key, 1), FLEETS))
        totals, story = play(recorded(fleets(keys, SHARED), keys), policies)
        return violations(totals, story.metrics, *books(story.record))

    seen = check(map(found, jax.random.split(jax.random.key(1), BATCHES)))
    assert min(seen.values()) > 0.02 * BATCHES * FLEETS, f"something hardly ever happened: {seen}"


@partial(jax.jit, static_argnames="size")
def found_in(keys, size):
    def one(key):
        run, (metrics, kept) = run_world(key, random_policy(jax.random.fold_in(key, 1)), size, keep=books)
        return run.totals, metrics, *kept

    return violations(*jax.vmap(one)(keys))


@pytest.mark.slow  # 100,000 scenarios, about three minutes
@pytest.mark.parametrize("information", ["online", "slot"])
@pytest.mark.parametrize("size", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_every_task_is_accounted_for_in_a_hundred_thousand_scenarios(size, information):
    keys = jax.random.split(jax.random.key(2 + (information == "slot")), (25, CHUNK))
    seen = check(found_in(some, size._replace(information=information)) for some in keys)
    assert min(seen.values()) > CHUNK, f"something hardly ever happened: {seen}"
