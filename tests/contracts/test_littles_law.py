"""Little's law, exact on runs that end empty: the integral of the number of tasks is the sum of their times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import FLEETS, SHARED, Fleets, fleets, named_policies, play, recorded

SLOT_S = 45.0
BUSY_SLOTS = 5  # then arrivals stop
LOAD = 0.2
MODEL_GB = (13.0, 13.5, 14.0, 14.5, 15.0, 15.5, 15.8, 16.0)  # each fits the smallest server


def worlds(keys):
    """Worlds in which nothing is dropped and all is done at the end."""
    cluster, workload, scenario, physics = fleets(keys, SHARED, drops=False)
    busy = jnp.arange(SHARED.slots)[:, None] < BUSY_SLOTS
    scenario = scenario.replace(rate_factor=jnp.where(busy, jnp.minimum(scenario.rate_factor, 1.0), 0.0))
    model_gb = jnp.broadcast_to(jnp.asarray(MODEL_GB), workload.model_gb.shape)
    workload = workload.replace(model_gb=model_gb, load=jnp.full_like(workload.load, LOAD))
    return Fleets(cluster, workload, scenario, physics)


def integral(arrived_s, finished_s):
    """Area under the number of tasks in the system, and that number just after each event."""
    times = np.concatenate([arrived_s, finished_s])
    steps = np.concatenate([np.ones(len(arrived_s)), -np.ones(len(finished_s))])
    order = np.argsort(times, kind="stable")
    number = np.cumsum(steps[order])
    return (number[:-1] * np.diff(times[order])).sum(), times[order], number


def test_integral_of_the_number_in_the_system_is_the_sum_of_response_times():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(3), FLEETS)
        every = recorded(worlds(keys), keys)
        played = play(every, named_policies(FLEETS))
    worlds_, (_, story) = jax.tree.map(np.asarray, (every, played))
    begin = np.arange(SHARED.slots)[:, None] * SLOT_S
    waiting = (story.metrics.queued + story.metrics.buffered).any(axis=1)
    assert waiting.mean() > 0.5, "hardly anybody waits"
    for i in range(FLEETS):
        (cluster, workload, *_), (metrics, record, *_) = jax.tree.map(lambda x, i=i: x[i], (worlds_, story))
        tasks, pool, done = workload.tasks, record.pool, record.outcome == 0
        assert tasks.overflow.sum() == 0
        assert metrics.dropped.sum() == 0
        arrived = (tasks.arrival_s + begin)[tasks.mask]
        finished = (pool.finish_s + begin)[done]
        assert len(arrived) == len(finished) > 10, "the run has not ended empty"
        area, times, number = integral(arrived, finished)
        back_s = cluster.latency_s[pool.region, pool.origin][done]
        assert area == pytest.approx(metrics.response_s.sum() - back_s.sum(), rel=1e-9, abs=0)
        held = metrics.running + metrics.queued + metrics.buffered
        at_end = number[np.searchsorted(times, begin[:, 0] + SLOT_S, side="right") - 1]
        np.testing.assert_array_equal(at_end, held)
