"""No policy sees the future: what it decides for a slot is the same, whatever arrives in that slot or later."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax import lax

from tests.references.worlds import Size, named_policies, random_policy, random_world
from torta_jax import schedulers
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import Forecast
from torta_jax.sim.account import OUTCOMES
from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.slot import make_world, reset, run_slot
from torta_jax.workload import Synthetic

SIZE = Size(regions=4, servers=6, lanes=2, slots=12, max_tasks=320, carry_tasks=768, region_tasks=768)
TURN = 10  # the first slot that differs
NEVER, FOREVER_S = SIZE.slots, 1e9
NAMED, RANDOM = 4 * len(schedulers.NAMES), 32  # fleets


class Altered(struct.PyTreeNode):
    """Another workload, busier and of another seed, from slot `turn` on; and nothing from `until_s` on."""

    calm: Synthetic
    busy: Synthetic
    turn: jax.Array
    until_s: jax.Array

    model_gb = property(lambda self: self.calm.model_gb)
    max_tasks = property(lambda self: self.calm.max_tasks)
    embedding_dim = property(lambda self: self.calm.embedding_dim)
    start_hour_utc = property(lambda self: self.calm.start_hour_utc)

    def prepare(self, cluster, scenario, key, num_slots, slot_s):
        other = jax.random.fold_in(key, 1)
        calm = self.calm.prepare(cluster, scenario, key, num_slots, slot_s)
        return calm, self.busy.prepare(cluster, scenario, other, num_slots, slot_s), other

    def arrivals(self, prepared, key, slot):
        calm, busy, other = prepared
        calm, busy = self.calm.arrivals(calm, key, slot), self.busy.arrivals(busy, other, slot)
        tasks = jax.tree.map(lambda a, b: jnp.where(slot < self.turn, a, b), calm, busy)
        return tasks.replace(mask=tasks.mask & (slot * prepared[0].slot_s + tasks.arrival_s < self.until_s))


def play(key, policy, turn, until_s, information) -> Any:
    """Per slot: the matrix asked for, the metrics and the record."""
    size = SIZE._replace(information=information)
    cluster, workload, scenario, physics = random_world(key, size, drops=False)
    calm, busy = (workload.replace(load=jnp.asarray(load)) for load in (0.15, 1.2))
    world = make_world(cluster, Altered(calm, busy, turn, until_s), scenario, key, size.slots, physics.slot_s)

    def step(run, _):
        state, totals, metrics, record = run_slot(world, physics, policy, *run)
        return (state, totals), (state.matrix, metrics, record)

    return lax.scan(step, reset(world, physics, policy), None, length=size.slots)[1]


@functools.cache
def program(information):
    return jax.jit(jax.vmap(functools.partial(play, information=information), (0, 0, None, None)))


def unsmoothed(policies):
    """The policies without the smoothing and the headroom that would hide for a while what they have seen."""
    plain = lambda part, default: jax.tree.map(jnp.full_like, part, numbers(default))  # noqa: E731
    return policies.replace(
        forecast=plain(policies.forecast, Forecast()), activation=plain(policies.activation, ActivationRule())
    )


@functools.cache
def fleets(information, turn=NEVER, until_s=FOREVER_S):
    """What `play` returns, [fleet, slot, ...] NumPy arrays: first every named policy in turn, then random ones."""
    keys = jax.random.split(jax.random.key(11), NAMED + RANDOM)
    random = numbers(jax.vmap(random_policy)(keys[NAMED:]))
    policies = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), unsmoothed(named_policies(NAMED)), random
    )
    return jax.tree.map(np.asarray, program(information)(keys, policies, jnp.int32(turn), jnp.asarray(until_s)))


def at(slots, tree):
    return jax.tree.map(lambda x: x[:, slots], tree)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differs(a, b) -> np.ndarray:
    """[fleet] bool: some number of two trees of [fleet, ...] arrays differs."""
    unequal = jax.tree.map(lambda x, y: (x != y).reshape(len(x), -1).any(axis=1), a, b)
    return np.any(jax.tree.leaves(unequal), axis=0)


def decisions(result):
    """What is decided before a slot's tasks are: the matrix, which servers are on, and when they are warm."""
    matrix, metrics, record = result
    return matrix, record.servers.active, record.servers.warm_s, metrics.server_starts, metrics.warmup_s


@pytest.mark.parametrize("information", ["online", "slot"])
def test_no_policy_sees_the_arrivals_of_a_slot_before_its_end(information):
    one, other = fleets(information), fleets(information, turn=TURN)
    same(at(slice(TURN), one), at(slice(TURN), other))
    same(at(TURN, decisions(one)), at(TURN, decisions(other)))
    assert (one[1].arrived[:, TURN] != other[1].arrived[:, TURN]).all(), "the futures are the same"

    reacts = differs(at(TURN + 1, decisions(one)), at(TURN + 1, decisions(other)))
    named = reacts[:NAMED].reshape(-1, len(schedulers.NAMES)).any(axis=0)
    assert named.all(), f"blind to what has come: {np.array(schedulers.NAMES)[~named]}"
    assert reacts.mean() > 0.6, f"only {reacts.sum()} of {len(reacts)} act on what has come"


def test_online_nothing_that_happens_to_a_task_depends_on_those_that_arrive_later():
    until_s = (TURN + 0.5) * 45.0
    (_, less, cut), (_, more, whole) = fleets("online", until_s=until_s), fleets("online")
    assert (less.arrived[:, TURN] < more.arrived[:, TURN]).mean() > 0.9, "hardly anything is cut"
    assert more.dropped[:, : TURN + 1].sum() == 0, "what is dropped depends on the room that is left"
    there = cut.outcome[:, TURN] < len(OUTCOMES)  # later tasks follow in the pool
    for name in ("region", "server", "ready_s", "start_s", "finish_s", "loading_s", "network_s"):
        same(getattr(cut.pool, name)[:, TURN][there], getattr(whole.pool, name)[:, TURN][there])
    same(cut.order[:, TURN][there], whole.order[:, TURN][there])
    assert (cut.order[:, TURN] >= 0).sum() > len(there), "hardly anything was decided"
