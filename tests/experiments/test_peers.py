"""The peers of the benchmark serve the queueing model that the simulator does, and not an easier one."""

import jax
import numpy as np
import pytest

from experiments.benchmarks import experiment, lanes, peers_ciw, peers_simpy
from torta_jax.evaluate.rollout import world_keys
from torta_jax.schedulers import Rules
from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Weights
from torta_jax.sim.simulate import simulate
from torta_jax.types import Phase

NUM_SLOTS = 6


@pytest.fixture(scope="module")
def world():
    return experiment.one_world(NUM_SLOTS)


@pytest.fixture(scope="module")
def expected(world):
    cluster, model_gb, tasks = world
    return lanes.run(lanes.fleet(cluster), tasks, model_gb)


def test_simpy_finishes_every_task_at_the_same_time(world, expected):
    cluster, model_gb, tasks = world
    np.testing.assert_allclose(peers_simpy.run(lanes.fleet(cluster), tasks, model_gb), expected, atol=1e-9)


def test_ciw_serves_every_task_of_equal_servers(world):
    cluster, model_gb, tasks = world
    equal = [
        [lanes.Server(1.0, 1.0, [1.0] * 3, switch_s=0.0, memory_gb=np.inf) for _ in row] for row in lanes.fleet(cluster)
    ]
    finish_s = peers_ciw.run(equal, tasks, model_gb)
    expected = lanes.run(equal, tasks, model_gb)
    np.testing.assert_allclose(np.sort(finish_s), np.sort(expected), atol=1e-9)


def test_the_simulator_finishes_every_task_at_the_same_time(world, expected):
    """Every server on, no routing, no prefix cache, the server that finishes first."""
    physics = experiment.physics(NUM_SLOTS).replace(prefix_gain=0.0)
    always_on = ActivationRule(utilisation=1e-6)
    policy = Rules(weights=Weights(wait=1.0, service=1.0), activation=always_on, max_wait_s=1e6)
    cluster, demand, scenario = experiment.parts(NUM_SLOTS)
    keep = lambda record: (record.order >= 0, record.pool.finish_s, record.pool.phase == Phase.COMMITTED)  # noqa: E731
    run = jax.jit(lambda key: simulate(cluster, demand, policy, key, scenario=scenario, physics=physics, keep=keep))
    _, (_, (taken, finish_s, committed)) = run(world_keys([0])[0])
    finish_s = finish_s + np.arange(NUM_SLOTS)[:, None] * physics.slot_s
    assert bool((~taken | committed).all())
    np.testing.assert_allclose(np.asarray(finish_s)[np.asarray(taken)], expected, atol=2e-3)
