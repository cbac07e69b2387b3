"""No task is lost silently: exact counts per slot, region and kind, in worlds and under policies drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import Size, random_policy, run_world
from torta_jax.sim.account import DROPS, OUTCOMES
from torta_jax.sim.slot import SlotRecord

ENDED = np.array([0, *range(DROPS, len(OUTCOMES))])
HELD = np.arange(1, DROPS)

ROOMY = Size(regions=3, servers=2, lanes=1, slots=10, max_tasks=96, carry_tasks=96, region_tasks=48, embedding=1)
TIGHT = Size(regions=3, servers=2, lanes=2, slots=10, max_tasks=20, carry_tasks=12, region_tasks=5, embedding=1)
CHUNK = 1000


def books(record: SlotRecord):
    """Arrivals, and tasks by outcome."""
    return record.arrived, record.counts


def violations(size: Size, keys):
    """Books that do not balance, and how often each outcome was seen, over the worlds of `keys`."""

    def one(key):
        policy = random_policy(jax.random.fold_in(key, 1))
        run, (metrics, (arrived, counts)) = run_world(key, policy, size, keep=books)
        held = counts[:, HELD].sum(axis=1)  # [T, R, 3]
        before = jnp.concatenate([jnp.zeros_like(held[:1]), held[:-1]])
        per_slot = before + arrived - counts[:, ENDED].sum(axis=1) - held
        totals = run.totals
        whole = totals.arrived - totals.completed - totals.dropped.sum(axis=0) - held[-1]
        reported = metrics.arrived - arrived.sum(axis=(1, 2))
        named = jnp.stack([metrics.completed, metrics.running, metrics.queued, metrics.buffered], axis=1)
        named = jnp.concatenate([named, metrics.dropped], axis=1) - counts.sum(axis=(2, 3))
        binned = totals.histogram.sum(axis=1) - totals.completed.sum()
        wrong = [jnp.abs(x).sum() for x in (per_slot, whole, reported, named, binned)]
        negative = (counts < 0).sum() + (arrived < 0).sum()
        return jnp.stack([*wrong, negative]), counts.sum(axis=(0, 2, 3))

    wrong, seen = jax.vmap(one)(keys)
    return wrong.sum(axis=0), (seen > 0).sum(axis=0)


def check(size: Size, information: str, scenarios: int, seed: int):
    run = jax.jit(lambda keys: violations(size._replace(information=information), keys))
    keys = jax.random.split(jax.random.key(seed), (scenarios // CHUNK, CHUNK))
    wrong, seen = (np.sum(parts, axis=0) for parts in zip(*map(run, keys), strict=True))
    names = ("a slot's books", "the episode's books", "arrivals", "metrics", "histograms", "negative counts")
    assert not wrong.any(), dict(zip(names, wrong.tolist(), strict=True))
    return dict(zip(OUTCOMES, seen.tolist(), strict=True))


def test_every_task_is_accounted_for_whatever_the_policy():
    seen = check(TIGHT, "online", scenarios=2 * CHUNK, seed=1)
    assert min(seen.values()) > CHUNK / 10, f"something hardly ever happened: {seen}"


@pytest.mark.slow  # 100,000 scenarios, about three minutes
@pytest.mark.parametrize("information", ["online", "slot"])
@pytest.mark.parametrize("size", [ROOMY, TIGHT], ids=["roomy", "tight"])
def test_every_task_is_accounted_for_in_a_hundred_thousand_scenarios(size, information):
    seen = check(size, information, scenarios=25 * CHUNK, seed=2 + (information == "slot"))
    assert min(seen.values()) > CHUNK, f"something hardly ever happened: {seen}"
