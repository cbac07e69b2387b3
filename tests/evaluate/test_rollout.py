"""Batches of seeds: how they are cut, how they report, how they end early."""

import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import Size, random_world
from torta_jax import schedulers
from torta_jax.errors import InputError
from torta_jax.evaluate import rollout
from torta_jax.evaluate.rollout import (
    CPU_BATCH,
    LONGEST_CHUNK,
    Interrupted,
    Shortage,
    Unlawful,
    chunks,
    evaluate,
    spread,
)
from torta_jax.sim.metrics import TIMES
from torta_jax.workload import Trace, TraceTable, calm

pytestmark = pytest.mark.filterwarnings("ignore::torta_jax.evaluate.rollout.Shortage")
SIZE = Size(regions=2, servers=2, lanes=1, slots=6, max_tasks=32, carry_tasks=64, region_tasks=32)


@functools.cache
def world():
    return jax.jit(random_world, static_argnums=1)(jax.random.key(3), SIZE)


def run(seeds, slots=SIZE.slots, policies=("skylb",), **more):
    cluster, workload, scenario, physics = world()
    chosen = {name: schedulers.get(name) for name in policies}
    return evaluate(cluster, workload, scenario, chosen, seeds, slots, physics=physics, **more)


@pytest.mark.parametrize("slots", [1, 7, 59, 60, 61, 127, 480, 481])
def test_chunks_add_up_and_have_at_most_two_lengths(slots):
    found = chunks(slots)
    assert sum(found) == slots
    assert max(found) <= LONGEST_CHUNK
    assert len(set(found)) <= 2


@pytest.mark.parametrize("count", [1, CPU_BATCH, CPU_BATCH + 1, 40])
def test_batches_hold_every_seed_in_order_and_are_filled_with_the_last(count):
    seeds = list(range(5, 5 + count))
    batches = [batch for _, batch in spread(seeds)]
    assert {len(batch) for batch in batches} == {CPU_BATCH}
    together = [seed for batch in batches for seed in batch]
    assert together[:count] == seeds
    assert set(together[count:]) <= {seeds[-1]}
    assert len(together) - count < CPU_BATCH


def test_progress_rises_to_the_number_of_slots_whatever_batch_is_ahead():
    seen = []
    run(3 * CPU_BATCH, policies=("skylb", "torta"), progress=lambda *place: seen.append(place))
    for name in ("skylb", "torta"):
        done = [slots for policy, slots, _ in seen if policy == name]
        assert done == sorted(done)
        assert done[-1] == SIZE.slots
    assert {total for *_, total in seen} == {SIZE.slots}


def test_an_error_while_reporting_ends_the_run(monkeypatch):
    calls = []
    monkeypatch.setattr(rollout, "cores", lambda: 2)

    def fail(*place):
        calls.append(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(16 * CPU_BATCH, progress=fail)
    assert len(calls) < 16


def test_an_interruption_keeps_the_policies_that_have_finished(monkeypatch):
    monkeypatch.setattr(rollout, "cores", lambda: 1)

    def stop(policy, *_):
        if policy == "torta":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupted:
        run(2, policies=("skylb", "torta", "sdib"), progress=stop)
    found = interrupted.value.episodes
    assert list(found) == ["skylb"]
    assert list(pickle.loads(pickle.dumps(interrupted.value)).episodes) == ["skylb"]
    assert str(interrupted.value) == "policies that had finished: skylb"
    jax.tree.map(np.testing.assert_array_equal, found, run(2))


class Times(schedulers.Rules):
    """A policy that asks for so many times the last matrix."""

    factor: float = 1.0

    def route(self, state, observation):
        return state, self.factor * observation.matrix


@pytest.mark.parametrize("factor", [-1.0, np.nan])
def test_shares_that_are_none_are_a_warning(factor):
    cluster, workload, scenario, physics = world()
    with pytest.warns(Unlawful, match=f"policy own: .* negative or not finite: {SIZE.slots}"):
        evaluate(cluster, workload, scenario, {"own": Times(factor=factor)}, 1, SIZE.slots, physics=physics)


class Row(schedulers.Rules):
    """A policy that asks for a row in place of a matrix."""

    def route(self, state, observation):
        return state, observation.matrix[0]


def test_a_matrix_of_another_shape_is_named():
    cluster, workload, scenario, physics = world()
    with pytest.raises(InputError, match=re.escape("Row.route: a matrix (2, 2) is needed, its shape is (2,)")):
        evaluate(cluster, workload, scenario, {"own": Row()}, 1, SIZE.slots, physics=physics)


def test_what_is_no_policy_or_of_other_regions_is_named():
    cluster, workload, scenario, physics = world()
    for wrong in ("torta", 5, schedulers.Rules):
        with pytest.raises(InputError, match="policy own: a policy is needed"):
            evaluate(cluster, workload, scenario, {"own": wrong}, 1, SIZE.slots, physics=physics)
    with pytest.raises(InputError, match="scenario: of 5 regions, the cluster has 2"):
        evaluate(cluster, workload, calm(SIZE.slots, 5), {"own": Times()}, 1, SIZE.slots, physics=physics)
    with pytest.raises(InputError, match="num_slots = -1: a whole number of at least 1 is needed"):
        calm(-1, 5)


def test_a_seed_is_the_same_alone_and_by_its_number():
    many, one = run(5)["skylb"], run([3])["skylb"]
    assert one.num_seeds == 1
    assert many.arrived_by_origin.sum() == many.slots.arrived.sum()
    assert many.dropped_by_origin.sum() == many.slots.dropped.sum()
    np.testing.assert_array_equal(many.histogram.sum(axis=-1).T, [many.slots.completed.sum(axis=1)] * len(TIMES))
    np.testing.assert_array_equal(many.slots.arrived[3], one.slots.arrived[0])
    np.testing.assert_array_equal(many.slots.response_s[3], one.slots.response_s[0])


@pytest.mark.parametrize(
    ("seeds", "slots", "message"), [(0, 3, "seeds"), ([], 3, "seeds"), (1, 0, "slots"), (1, 99, "6 slots, 99 needed")]
)
def test_nothing_to_run_is_an_error(seeds, slots, message):
    with pytest.raises(InputError, match=message):
        run(seeds, slots)


def test_a_shorter_run_is_the_beginning_of_its_scenario():
    cluster, workload, scenario, physics = world()
    more = jax.tree.map(lambda rows: jnp.concatenate([rows, jnp.zeros_like(rows)]), scenario)
    skylb = {"skylb": schedulers.get("skylb")}
    short = evaluate(cluster, workload, more, skylb, 1, SIZE.slots, physics=physics)["skylb"]
    jax.tree.map(np.testing.assert_array_equal, short, run(1)["skylb"])


def test_tasks_without_room_are_a_warning():
    cluster, workload, scenario, physics = world()
    tight = (cluster, workload.replace(load=4.0), scenario, {"skylb": schedulers.get("skylb")}, 1, SIZE.slots)
    with pytest.warns(Shortage, match="policy skylb: tasks dropped because the simulator had no room for them: [1-9]"):
        evaluate(*tight, physics=physics)


def test_a_trace_is_not_replayed_in_slots_of_another_length():
    cluster, _, scenario, physics = world()
    requests = TraceTable("made.csv", np.zeros(1), np.ones(1, int), np.ones(1, int))
    trace, policy = Trace.from_table(requests, num_slots=SIZE.slots), {"skylb": schedulers.get("skylb")}
    with pytest.raises(InputError, match=r"slot_s = 60.0, but the trace's slots have 45.0 s"):
        evaluate(cluster, trace, scenario, policy, 1, SIZE.slots, physics=physics.replace(slot_s=60.0))
