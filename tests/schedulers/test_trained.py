"""Policies with a network, from files: those of the package, and files that are no longer or not yet right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import schedulers, workload
from torta_jax.cluster import build, load, random_cluster
from torta_jax.errors import InputError
from torta_jax.evaluate.rollout import evaluate
from torta_jax.schedulers import actor, policy_file, trained
from torta_jax.schedulers.features import NUM_FEATURES
from torta_jax.schedulers.learned import NETWORK, VERSION
from torta_jax.schedulers.tuned import TUNED
from torta_jax.sim import fluid
from torta_jax.sim.slot import make_world
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

TORTA = {"policy": "torta", "network": VERSION}
NETWORK_OF_NAN = jax.tree.map(
    lambda x: np.full(x.shape, np.nan, np.float32),
    jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, NUM_FEATURES))),
)


@pytest.mark.parametrize("name", schedulers.LEARNED)
def test_a_policy_of_the_package_says_how_it_was_trained_and_is_finished(name):
    path = trained.WEIGHTS / f"{name.removesuffix('-learned')}.npz"
    _, facts = policy_file.unpack(path)
    assert name.startswith(facts["policy"])
    assert facts["updates_done"] == facts["updates"]
    assert facts["seed"] == 0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(schedulers.get(name).__dict__["parameters"]))


@pytest.mark.parametrize("topology", trained.TOPOLOGIES)
def test_the_papers_policy_is_made_for_its_topology(topology):
    policy = schedulers.get(f"torta-paper-{topology}")
    assert isinstance(policy, actor.Actor)
    assert policy.num_regions == load(topology).num_regions


def test_the_papers_policy_is_row_stochastic_near_its_plan_and_calmer_than_that():
    cluster = build("abilene")
    world = make_world(cluster, workload.Synthetic.create(), workload.calm(24, 12), jax.random.key(0), 24)
    policy = numbers(schedulers.get("torta-paper-abilene"))

    @jax.jit
    def play():
        def step(flows, _):
            flows, _ = fluid.run_slot(world, Physics(), policy, flows)
            return flows, (flows.matrix, flows.policy.plan, flows.policy.foreseen, flows.arrivals)

        return jax.lax.scan(step, fluid.reset(world, Physics(), policy), None, 24)[1]

    matrix, plan, foreseen, arrivals = (np.asarray(x)[8:] for x in play())
    np.testing.assert_allclose(matrix.sum(axis=-1), 1, rtol=1e-4)
    deviation = np.sqrt(((matrix - plan) ** 2).sum(axis=(1, 2)))
    assert (deviation < 0.3).all()
    calmer = (np.diff(matrix, axis=0) ** 2).sum(axis=(1, 2)).mean()
    assert calmer < 0.6 * (np.diff(plan, axis=0) ** 2).sum(axis=(1, 2)).mean()
    error = np.abs(foreseen - arrivals).sum() / arrivals.sum()  # the predictor's, of the coming slot
    assert error < 0.3


def test_a_policy_of_other_regions_is_refused():
    cluster = random_cluster(jax.random.key(0), 5, 4)
    policy = {"it": schedulers.get("torta-paper-abilene")}
    with pytest.raises(InputError, match="policy it: made for 12 regions, the world has 5"):
        evaluate(cluster, workload.Synthetic.create(), workload.calm(4, 5), policy, 1, 4)


@pytest.mark.parametrize("name", ["torta", "torta-paper-abilene"])
def test_the_numbers_beneath_a_network_come_from_its_file(name, tmp_path):
    parameters, facts = policy_file.unpack(trained.WEIGHTS / f"{name}.npz")
    assert facts["numbers"] == TUNED[facts["policy"]]  # those it was trained on, which are those of today
    facts["numbers"] = {"transport": {"smoothing": 3.5}}
    path = tmp_path / "it.npz"
    path.write_bytes(policy_file.pack(parameters, facts))
    policy = schedulers.load(path)
    assert policy.transport.smoothing == 3.5
    assert policy.activation == schedulers.get("torta" if name == "torta" else "torta-paper").activation


@pytest.mark.parametrize(
    ("parameters", "facts", "told"),
    [
        ({"a": jnp.ones(1)}, {"policy": "tortilla"}, "unknown policy in"),
        ({"a": jnp.ones(1)}, {"policy": "torta"}, "a network of version None, this program has"),
        ({"a": jnp.ones(1)}, TORTA, "not a network of this version's torta"),
        (NETWORK_OF_NAN, TORTA, "weights that are not finite numbers"),
        ({"a": jnp.ones(1)}, TORTA | {"blind": "no"}, "blind = 'no', true or false is needed"),
        ({"a": jnp.ones(1)}, TORTA | {"numbers": {"transport": 3.5}}, "the policy does not have"),
        ({"a": jnp.ones(1)}, TORTA | {"numbers": {"forecast": {"level": "x"}}}, "the policy does not have"),
        ({"a": jnp.ones(1)}, TORTA | {"numbers": [1]}, "the policy does not have"),
        ({"a": jnp.ones(1)}, {"policy": "torta-paper", "head": "gate", "regions": 3}, "of this version's torta-paper"),
        ({"a": jnp.ones(1)}, {"policy": "torta-paper", "head": "gait", "regions": 3}, "unknown head 'gait'"),
        (
            {"a": jnp.ones(1)},
            TORTA | {"numbers": {"tolls": {"weight": 1}}},
            "the policy does not have",
        ),
        ({"a": jnp.ones(1)}, {"policy": "torta-paper"}, "says nothing of its"),
        ({"a": jnp.ones(1)}, {"policy": "torta-paper", "head": "gate", "regions": "x"}, "regions = 'x'"),
    ],
)
def test_a_file_of_something_else_is_refused(parameters, facts, told, tmp_path):
    path = tmp_path / "it.npz"
    path.write_bytes(policy_file.pack(parameters, facts))
    with pytest.raises(InputError, match=told):
        schedulers.load(path)
