"""Who decides first, and what is assumed of the queues until then."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

from tests.references import region
from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.evaluate import rollout
from torta_jax.schedulers.rules import Rules
from torta_jax.sim import service
from torta_jax.sim.affinity import Weights
from torta_jax.workload import Synthetic, calm

FASTEST = Rules(weights=Weights(wait=1.0, service=1.0), max_wait_s=1000.0)


def decided(tasks, information, *, by_urgency=True, speeds=(1.0, 0.5)):
    """Server and start of (arrival, deadline, work) tasks."""
    found, _ = region.decided(tasks, FASTEST.replace(by_urgency=by_urgency), information, speeds)
    return tuple([*each] for each in zip(*found, strict=True))


def test_in_the_slot_model_the_urgent_task_has_first_choice_and_online_the_first_comer():
    tasks = [(0.0, 300.0, 10.0), (0.0, 100.0, 10.0)]
    assert decided(tasks, "online", speeds=(1.0, 0.9))[0] == [0, 1]
    assert decided(tasks, "slot", speeds=(1.0, 0.9))[0] == [1, 0]


def test_of_equally_urgent_tasks_the_larger_chooses_first():
    tasks = [(0.0, 100.0, 5.0), (0.0, 100.0, 20.0)]
    assert decided(tasks, "slot", speeds=(1.0, 0.9))[0] == [1, 0]


def test_a_policy_may_keep_the_order_of_arrival_in_the_slot_model():
    tasks = [(0.0, 300.0, 10.0), (0.0, 100.0, 10.0)]
    found = decided(tasks, "slot", by_urgency=False, speeds=(1.0, 0.9))
    assert found == decided(tasks, "online", speeds=(1.0, 0.9))


def test_nobody_waits_for_an_urgent_task_that_is_not_there_yet():
    tasks = [(0.0, 300.0, 10.0), (40.0, 100.0, 10.0)]
    server, start = decided(tasks, "slot", speeds=(1.0, 0.1))
    assert server == [0, 0]
    assert start == [0.0, 40.0]


def test_the_compiled_choice_is_the_argmax_in_every_policys_run(monkeypatch):
    """`choose` compares the scores with their maximum, which a compiler may reckon twice with other last bits."""
    abilene, proceed = clusters.build("abilene"), inspect.unwrap(rollout.proceed)
    policies = {name: schedulers.get(name) for name in schedulers.NAMES}

    def outcome():
        return rollout.evaluate(abilene, Synthetic.create(), calm(60, 12), policies, 8, 60)

    def argmax(score, allowed):
        score = jnp.where(allowed, score, -jnp.inf)
        return jnp.where(allowed.any(axis=-1), jnp.argmax(score, axis=-1), -1).astype(jnp.int32)

    ours = outcome()
    monkeypatch.setattr(service, "choose", argmax)
    monkeypatch.setattr(rollout, "proceed", jax.jit(lambda *arguments: proceed(*arguments), static_argnums=4))
    jax.tree.map(np.testing.assert_array_equal, ours, outcome())
