"""`torta` with a network: zero weights are `torta`, regions have no order, what is shipped is what the file says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax import schedulers, workload
from torta_jax.cluster import random_cluster
from torta_jax.learn.clairvoyant import Script
from torta_jax.schedulers.features import NUM_FEATURES
from torta_jax.schedulers.learned import CORRECTIONS, LARGEST, NETWORK, Learned
from torta_jax.sim import fluid
from torta_jax.sim.slot import make_world
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

REGIONS, SLOTS = 5, 12
PLAN = jnp.array([CORRECTIONS.index("price"), CORRECTIONS.index("latency")])


def policy_of(parameters, **fields) -> Learned:
    return numbers(Learned(**vars(schedulers.get("torta")), parameters=parameters, **fields))


def parameters_of(seed=0):
    return NETWORK.init(jax.random.key(seed), jnp.zeros((REGIONS, NUM_FEATURES)))


@jax.jit
def play(policy):
    cluster = random_cluster(jax.random.key(1), REGIONS, 6)
    scenario = workload.calm(SLOTS, REGIONS)
    world = make_world(cluster, workload.Synthetic.create(load=0.4), scenario, jax.random.key(2), SLOTS)

    def step(flows, _):
        flows, slot = fluid.run_slot(world, Physics(), policy, flows)
        return flows, (flows.matrix, flows.on, slot)

    return jax.lax.scan(step, fluid.reset(world, Physics(), policy), None, length=SLOTS)[1]


def test_without_weights_it_is_torta():
    zero = jax.tree.map(jnp.zeros_like, parameters_of())
    for mine, theirs in zip(
        jax.tree.leaves(play(policy_of(zero))), jax.tree.leaves(play(numbers(schedulers.get("torta")))), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_weights_change_what_it_does():
    shipped = play(numbers(schedulers.get("torta-learned")))
    assert np.abs(np.asarray(shipped[0]) - np.asarray(play(numbers(schedulers.get("torta")))[0])).max() > 0.01
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(shipped))


def test_a_blind_network_says_the_same_of_every_region():
    parameters = jax.tree.map(lambda x: x + 0.3, parameters_of())
    cluster = random_cluster(jax.random.key(1), REGIONS, 6)
    policy = policy_of(parameters, blind=True)
    scenario = workload.calm(SLOTS, REGIONS)
    world = make_world(cluster, workload.Synthetic.create(), scenario, jax.random.key(2), SLOTS)
    run = jax.jit(lambda policy: fluid.run_slot(world, Physics(), policy, fluid.reset(world, Physics(), policy))[0])
    flows = run(policy)
    corrections = flows.policy.corrections
    assert np.abs(corrections).max() > 0
    np.testing.assert_array_equal(corrections, np.broadcast_to(corrections[:1], corrections.shape))


def test_prices_and_distances_that_count_more_make_a_plan_sharper():
    """By the same factor as if the entropy were divided by it."""
    factor = 0.6
    corrections = LARGEST * jnp.arctanh(jnp.where(jnp.isin(jnp.arange(6), PLAN), jnp.log(factor), 0.0) / LARGEST)
    torta = schedulers.get("torta")
    script = Script(**vars(torta), script=jnp.broadcast_to(corrections, (SLOTS, REGIONS, 6)))
    softer = torta.replace(transport=torta.transport.replace(epsilon=torta.transport.epsilon / factor))
    mine, theirs, plain = (np.asarray(play(numbers(policy))[0]) for policy in (script, softer, torta))
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
    assert np.abs(mine - plain).max() > 0.01


def test_regions_have_no_order():
    """Observed in another order they get the same rows, columns and corrections in that order."""
    regions = 7  # no other axis of an observation is as long
    cluster = random_cluster(jax.random.key(1), regions, 6)
    world = make_world(cluster, workload.Synthetic.create(load=0.4), workload.calm(4, regions), jax.random.key(2), 4)
    parameters = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(3), x.shape), parameters_of())
    policy = policy_of(parameters)

    @jax.jit
    def seen_after_two_slots():
        flows = fluid.reset(world, Physics(), policy)
        for _ in range(2):
            flows, _ = fluid.run_slot(world, Physics(), policy, flows)
        return flows.policy, fluid.observe(flows, world, Physics())

    def mixed(tree):
        order = jnp.array([3, 1, 4, 0, 6, 2, 5])
        axes = lambda x: [axis for axis, length in enumerate(x.shape) if length == regions]  # noqa: E731
        take = lambda x: functools.reduce(lambda y, axis: jnp.take(y, order, axis=axis), axes(x), x)  # noqa: E731
        return jax.tree.map(take, tree)

    before, seen = seen_after_two_slots()
    route = jax.jit(policy.route)
    state, matrix = route(before, seen)
    other, other_matrix = route(mixed(before), mixed(seen))
    assert np.asarray(state.corrections).std(axis=0).min() > 1e-3  # regions differ
    np.testing.assert_allclose(other.corrections, mixed(state.corrections), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other_matrix, mixed(matrix), rtol=1e-3, atol=1e-4)
