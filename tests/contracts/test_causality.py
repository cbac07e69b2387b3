"""No policy sees the future: what it decides for a slot is the same, whatever arrives in that slot or later."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import FLEETS, SHARED, fleets, named_policies, play, random_policies, recorded
from torta_jax import schedulers
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import Forecast
from torta_jax.sim.account import OUTCOMES
from torta_jax.sim.activation import ActivationRule

SLOT_S = 45.0
TURN = 10  # the first slot that differs
NEVER, FOREVER_S = SHARED.slots, 1e9
NAMED = FLEETS // 2  # the others' policies are random
ONE_BY_ONE = [
    name for name in schedulers.NAMES if not (schedulers.get(name).by_urgency or schedulers.get(name).by_auction)
]


@functools.cache
def worlds(information):
    """Calm worlds, and the same ones busier and of other seeds."""
    keys = jax.random.split(jax.random.key(11), FLEETS)
    others = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    made = fleets(keys, SHARED._replace(information=information), drops=False)

    def with_load(load, keys):
        workload = made.workload.replace(load=jnp.full_like(made.workload.load, load))
        return recorded(made._replace(workload=workload), keys)

    return with_load(0.1, keys), with_load(1.2, others)


def altered(information, turn, until_s):
    """The calm worlds, the busy ones from slot `turn` on; and nothing from `until_s` on."""
    calm, busy = worlds(information)
    slot = jnp.arange(SHARED.slots)

    def pick(a, b):
        return jnp.where((slot < turn).reshape(-1, *[1] * (a.ndim - 2)), a, b)

    tasks = jax.tree.map(pick, calm.workload.tasks, busy.workload.tasks)
    tasks = tasks.replace(mask=tasks.mask & (slot[:, None] * SLOT_S + tasks.arrival_s < until_s))
    return calm._replace(workload=calm.workload.replace(tasks=tasks))


def unsmoothed(policies):
    """The policies without the smoothing and the headroom that would hide for a while what they have seen."""
    plain = lambda part, default: jax.tree.map(jnp.full_like, part, numbers(default))  # noqa: E731
    return policies.replace(
        forecast=plain(policies.forecast, Forecast()), activation=plain(policies.activation, ActivationRule())
    )


@functools.cache
def stories(information, turn=NEVER, until_s=FOREVER_S, quick=True) -> Any:
    """The `Story` of every fleet, NumPy arrays: first every named policy in turn, then random ones.

    Args:
        quick: the named ones have no smoothing and no headroom.
    """
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(12), FLEETS - NAMED)
        named = named_policies(NAMED)
        both = unsmoothed(named) if quick else named, random_policies(keys)
        policies = jax.tree.map(lambda *parts: jnp.concatenate(parts), *both)
        _, story = play(altered(information, turn, until_s), policies)
    return jax.tree.map(np.asarray, story)


def at(slots, tree):
    return jax.tree.map(lambda x: x[:, slots], tree)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differs(a, b) -> np.ndarray:
    """[fleet] bool: some number of two trees of [fleet, ...] arrays differs."""
    unequal = jax.tree.map(lambda x, y: (x != y).reshape(len(x), -1).any(axis=1), a, b)
    return np.any(jax.tree.leaves(unequal), axis=0)


def decisions(story):
    """What is decided before a slot's tasks are: the matrix, which servers are on, and when they are warm."""
    servers, metrics = story.record.servers, story.metrics
    return story.matrix, servers.active, servers.warm_s, metrics.server_starts, metrics.warmup_s


@pytest.mark.parametrize("information", ["online", "slot"])
def test_no_policy_sees_the_arrivals_of_a_slot_before_its_end(information):
    one, other = stories(information), stories(information, turn=TURN)
    same(at(slice(TURN), one), at(slice(TURN), other))
    same(at(TURN, decisions(one)), at(TURN, decisions(other)))
    same(at(TURN, (one.observation, one.kind_share)), at(TURN, (other.observation, other.kind_share)))
    assert (one.metrics.arrived[:, TURN] != other.metrics.arrived[:, TURN]).all(), "the futures are the same"

    reacts = differs(at(TURN + 1, decisions(one)), at(TURN + 1, decisions(other)))
    named = reacts[:NAMED].reshape(-1, len(schedulers.NAMES)).any(axis=0)
    assert named.all(), f"blind to what has come: {np.array(schedulers.NAMES)[~named]}"
    assert reacts.mean() > 0.6, f"only {reacts.sum()} of {len(reacts)} act on what has come"


def test_online_nothing_that_happens_to_a_task_depends_on_those_that_arrive_later():
    until_s = (TURN + 0.1) * SLOT_S  # of those that have a row in the padding, half come later
    both = stories("online", turn=TURN, until_s=until_s), stories("online", turn=TURN)
    cut, whole = jax.tree.map(lambda x: x[:, TURN], [story.record for story in both])
    there = cut.outcome < len(OUTCOMES)  # later tasks follow in the pool
    assert (there.sum(axis=1) < (whole.outcome < len(OUTCOMES)).sum(axis=1)).mean() > 0.9, "hardly anything is cut"
    for name in ("region", "server", "ready_s", "start_s", "finish_s", "loading_s", "network_s"):
        same(getattr(cut.pool, name)[there], getattr(whole.pool, name)[there])
    same(cut.order[there], whole.order[there])
    assert (cut.order >= 0).sum() > 4 * len(there), "hardly anything was decided"


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_policies_that_act_task_by_task_do_the_same_under_both_information_models(name):
    its_own = [i for i in range(NAMED) if schedulers.NAMES[i % len(schedulers.NAMES)] == name]
    both = [stories(information, turn=TURN, quick=False).metrics for information in ("online", "slot")]
    online, slot = jax.tree.map(lambda x: x[its_own], both)
    assert (online.completed.sum(axis=1) > 20).all()
    for field in ("completed", "buffered", "queued", "running", "server_starts", "dropped"):
        same(getattr(online, field), getattr(slot, field))
    np.testing.assert_allclose(online.response_s, slot.response_s, rtol=1e-9)
