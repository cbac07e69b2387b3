"""Little's law, exact on runs that end empty: the integral of the number of tasks is the sum of their times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import Size, named_policies, random_world
from torta_jax import schedulers
from torta_jax.sim.simulate import simulate

SIZE = Size(regions=3, servers=3, lanes=2, slots=70, max_tasks=96, carry_tasks=384, region_tasks=192)
BUSY_SLOTS = 12  # then arrivals stop
MODEL_GB = (13.0, 13.5, 14.0, 14.5, 15.0, 15.5, 15.8, 16.0)  # each fits the smallest server


def world(key):
    cluster, workload, scenario, physics = random_world(key, SIZE, drops=False)
    busy = jnp.arange(SIZE.slots)[:, None] < BUSY_SLOTS
    scenario = scenario.replace(rate_factor=jnp.where(busy, scenario.rate_factor, 0.0))
    workload = workload.replace(model_gb=jnp.asarray(MODEL_GB), load=0.3 * workload.load)
    return cluster, workload, scenario, physics


def run(key, policy):
    cluster, workload, scenario, physics = world(key)

    def keep(record):
        back_s = cluster.latency_s[record.pool.region, record.pool.origin]
        return record.outcome == 0, record.pool.finish_s, back_s

    _, kept = simulate(cluster, workload, policy, key, scenario=scenario, physics=physics, keep=keep)
    prepared = workload.prepare(cluster, scenario, key, SIZE.slots, physics.slot_s)
    tasks = jax.vmap(lambda slot: workload.arrivals(prepared, key, slot))(jnp.arange(SIZE.slots))
    return kept, tasks


def integral(arrived_s, finished_s):
    """Area under the number of tasks in the system, and that number just after each event."""
    times = np.concatenate([arrived_s, finished_s])
    steps = np.concatenate([np.ones(len(arrived_s)), -np.ones(len(finished_s))])
    order = np.argsort(times, kind="stable")
    number = np.cumsum(steps[order])
    return (number[:-1] * np.diff(times[order])).sum(), times[order], number


def test_integral_of_the_number_in_the_system_is_the_sum_of_response_times():
    keys = jax.random.split(jax.random.key(3), 2 * len(schedulers.NAMES))
    with jax.enable_x64(True):
        (metrics, (done, finish_s, back_s)), tasks = jax.tree.map(
            np.asarray, jax.jit(jax.vmap(run))(keys, named_policies(len(keys)))
        )
        slot_s = 45.0
    begin = np.arange(SIZE.slots)[:, None] * slot_s
    for i in range(len(keys)):
        assert tasks.overflow[i].sum() == 0
        assert metrics.dropped[i].sum() == 0
        arrived = (tasks.arrival_s[i] + begin)[tasks.mask[i]]
        finished = (finish_s[i] + begin)[done[i]]
        assert len(arrived) == len(finished) > 10, "the run has not ended empty"
        area, times, number = integral(arrived, finished)
        responses = metrics.response_s[i].sum() - back_s[i][done[i]].sum()
        assert area == pytest.approx(responses, rel=1e-9, abs=0)
        held = metrics.running[i] + metrics.queued[i] + metrics.buffered[i]
        at_end = number[np.searchsorted(times, begin[:, 0] + slot_s, side="right") - 1]
        np.testing.assert_array_equal(at_end, held)
