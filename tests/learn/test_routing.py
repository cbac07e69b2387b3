"""The paper's decision process and its constraints: reward, contract, multipliers, the condition of Theorem 3."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import schedulers, workload
from torta_jax.cluster import random_cluster
from torta_jax.errors import InputError
from torta_jax.learn import constraints, ppo, routing
from torta_jax.schedulers import actor, heads
from torta_jax.sim.env import Objective
from torta_jax.types import numbers

REGIONS, SLOTS, LENGTH = 4, 40, 6
HEAD = heads.Gate(smoothing=1.0)


@pytest.fixture(scope="module")
def params():
    cluster = random_cluster(jax.random.key(0), REGIONS, 6)
    policy = actor.Actor(**vars(schedulers.get("torta-paper")), head=HEAD)
    scenario = workload.calm(SLOTS, REGIONS)
    return numbers(routing.Params(cluster, workload.Synthetic.create(), scenario, policy, length=LENGTH))


def penalty_of(rule="exponential"):
    unused: Any = None  # only where slopes are measured
    return constraints.penalty(HEAD, unused, constraints.Targets(), rule)


@pytest.fixture(scope="module")
def episode(params):
    """Observations, states and what `step` gave, of an episode with drawn latents."""
    reset, step = jax.jit(routing.Routing().reset), jax.jit(routing.Routing().step)
    observation, state = reset(jax.random.key(1), params)
    seen: list[Any] = [(observation, state, None)]
    for t in range(LENGTH):
        latent = 0.5 * jax.random.normal(jax.random.key(10 + t), (REGIONS, 2))
        observation, state, *rest = step(jax.random.key(2), state, latent, params)
        seen.append((observation, state, rest))
    return seen


def test_the_reward_is_eq_3(params, episode):
    for (_, before, _), (_, after, (reward, _, _, info)) in itertools.pairwise(episode):
        plan, matrix, last = after.flows.policy.plan, after.flows.matrix, before.flows.matrix
        served = float(params.cluster.lane_mask.sum()) * 45.0 / float(after.flows.service_s.mean())
        expected = -((matrix - plan) ** 2).sum() - params.reward.switching * ((matrix - last) ** 2).sum()
        expected -= params.reward.queue * after.flows.queue.sum() / served
        assert reward == pytest.approx(float(expected), rel=0.01, abs=1e-6)
        np.testing.assert_allclose(info["plan"], plan)
        np.testing.assert_allclose(info["last"], last)


def test_servers_that_are_off_do_not_count_in_what_the_queue_is_held_against(params, episode):
    flows = episode[2][1].flows
    half = flows.replace(on=flows.on.at[:, ::2].set(0.0), queue=jnp.ones(REGIONS))
    lanes = float((params.cluster.lane_mask.sum(axis=1) * (jnp.arange(half.on.shape[1]) % 2)).sum())
    expected = REGIONS / (lanes * 45.0 / float(flows.service_s.mean()))
    assert routing.queue_share(half, params) == pytest.approx(expected, rel=1e-5)


def test_an_episode_is_cut_and_never_ends_by_itself(episode):
    ends = [(bool(terminated), bool(truncated)) for _, _, (_, terminated, truncated, _) in episode[1:]]
    assert [terminated for terminated, _ in ends] == [False] * LENGTH
    assert [truncated for _, truncated in ends] == [False] * (LENGTH - 1) + [True]


def test_the_matrix_is_the_heads_on_the_plan_and_the_last_matrix(params, episode):
    (_, before, _), (_, after, _) = episode[2:4]
    latent = 0.5 * jax.random.normal(jax.random.key(12), (REGIONS, 2))
    expected = HEAD.matrix(latent, heads.Anchor(after.flows.policy.plan, before.flows.matrix))
    np.testing.assert_allclose(after.flows.matrix, expected, rtol=1e-5, atol=1e-6)


def test_the_observation_is_finite_and_new_every_slot(episode):
    observations = np.stack([observation for observation, _, _ in episode])
    assert np.isfinite(observations).all()
    assert (np.abs(np.diff(observations, axis=0)).max(axis=1) > 0).all()


def test_the_policy_with_a_network_asks_for_the_matrix_of_its_mean(params, episode):
    """What an agent draws from outside and what a scheduler does are the same function."""
    observation, state, _ = episode[3]
    net = routing.network(params)
    parameters = net.init(jax.random.key(5), observation)
    raw, _ = net.apply(parameters, observation)
    parameters = {"params": parameters["params"]["policy"]}
    _, after, *_ = routing.Routing().step(jax.random.key(0), state, HEAD.mean(raw), params)
    own = params.replace(policy=params.policy.replace(parameters=parameters))
    flows, _ = routing.fluid.run_slot(state.world, params.physics, own.policy, state.flows)
    np.testing.assert_allclose(flows.matrix, after.flows.matrix, rtol=1e-4, atol=1e-6)


def seen(farthest, improvement, advantage=-1.0):
    found = {"farthest": farthest, "improvement": improvement, "advantage": advantage, "k0": 0.2}
    return {name: jnp.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("rule", constraints.RULES)
def test_multipliers_rise_while_a_constraint_is_broken_and_rest_where_both_hold(rule):
    penalty = penalty_of(rule)
    start = penalty.multipliers
    broken = penalty.update(start, seen(farthest=0.3, improvement=2.0))
    worse = penalty.update(broken, seen(farthest=0.5, improvement=1.0))
    assert worse.gamma > 1.1 * broken.gamma
    assert worse.delta > 1.1 * broken.delta
    calm = penalty.update(start, seen(farthest=0.1, improvement=5.0, advantage=1.0))
    assert calm.gamma <= start.gamma
    assert calm.delta <= start.delta


def test_the_stepwise_rule_is_times_three_halves_while_the_condition_is_violated():
    penalty = penalty_of("stepwise")
    found = penalty.multipliers
    for _ in range(3):
        found = penalty.update(found, seen(farthest=0.1, improvement=5.0, advantage=-0.1))
    np.testing.assert_allclose([found.gamma, found.delta], [0.1 * 1.5**3] * 2, rtol=1e-5)


def test_the_pid_rule_comes_down_again():
    penalty = penalty_of("pid")
    state = penalty.multipliers
    for _ in range(5):
        state = penalty.update(state, seen(farthest=1.0, improvement=1.0))
    high = state.gamma
    for _ in range(40):
        state = penalty.update(state, seen(farthest=0.05, improvement=9.0))
    assert state.gamma < 0.1 * high


def test_the_loss_is_eq_5_by_hand():
    penalty = penalty_of()
    plan = jax.random.dirichlet(jax.random.key(0), jnp.ones(3), (5, 3))
    last = jax.random.dirichlet(jax.random.key(1), jnp.ones(3), (5, 3))
    raw = jnp.zeros((5, 3, 4))
    unused: Any = None
    step = ppo.Step(*[unused] * 8, info={"plan": plan, "last": last})
    state = penalty.multipliers.replace(gamma=jnp.asarray(2.0), delta=jnp.asarray(3.0), k0=jnp.asarray(0.5))
    matrix = 0.5 * (plan + last)  # the gate's, without a network
    farthest = float(jnp.sqrt(((matrix - plan) ** 2).sum(axis=(1, 2))).max())
    improvement = 0.5 / float(((matrix - last) ** 2).sum(axis=(1, 2)).mean())
    expected = 2 * max(0, (farthest - 0.15) / 0.15) + 3 * max(0, (2.5 - improvement) / 2.5)
    assert penalty.loss(state, raw, step) == pytest.approx(expected, rel=1e-5)


def test_the_condition_of_theorem_3_by_hand():
    slopes = constraints.Slopes(jnp.asarray(0.2), jnp.asarray(1e-5))
    objective = Objective(power_s_per_usd=45_000.0, switching_weight=0.05)
    found = constraints.advantage(jnp.asarray(2.5), jnp.asarray(0.15), jnp.asarray(0.2), slopes, objective)
    assert found == pytest.approx((1 - 1 / 2.5) / 0.15 - (0.2 + 45_000 * 1e-5) / (0.05 * 0.2), rel=1e-5)


def test_no_way_from_a_state_is_steeper_than_the_lipschitz_constants(params, episode):
    """One row towards one corner, or all at random."""
    states = [state for _, state, _ in episode[:3]]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *states)
    found = jax.jit(constraints.lipschitz)(stacked, params)
    corners = jnp.stack([jnp.eye(REGIONS)[j] - jnp.zeros((REGIONS, 1)) for j in range(REGIONS)])
    alone = jnp.eye(REGIONS)[:, None, :, None]
    policy = routing.by_plan(params.policy)

    @jax.jit
    def steepness(state):
        here = state.flows.matrix
        single = (alone * (corners - here)).reshape(-1, REGIONS, REGIONS)
        some = jax.random.dirichlet(jax.random.key(3), jnp.ones(REGIONS), (20, REGIONS)) - here
        moves = 0.01 * jnp.concatenate([single, some])

        def measured(matrix):
            _, slot = routing.fluid.run_slot(state.world, params.physics, policy, state.flows, matrix=matrix)
            return jnp.stack([slot.response_s, slot.power_cost_usd]) / slot.arrived

        change = jnp.abs(jax.vmap(measured)(here + moves) - measured(here))
        return (change / jnp.sqrt((moves**2).sum(axis=(1, 2)))[:, None]).max(axis=0)

    steepest = np.max([steepness(state) for state in states], axis=0)
    assert (steepest > 0).all()
    assert (np.asarray(found) >= 0.98 * steepest).all()
    assert (np.asarray(found) < 5 * steepest).all()


def test_the_steepest_way_is_that_of_a_linear_function():
    """By hand: the first row has nothing to gain; the largest slope is not the steepest way where its corner is far."""
    matrix = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    slope = jnp.array([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0], [2.0, 1.0, 0.0]])
    moved = constraints.steepest(matrix, slope, 0.1)
    # Gains of 3 and 2 over squared lengths of 1.5 and 2.
    expected = np.array([[1.0, 0.0, 0.0], [0.45, 0.45, 0.1], [0.05, 0.0, 0.95]])
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    # Gains of .5 and .7 over lengths of √.5 and √1.5.
    moved = constraints.steepest(matrix[1:2], jnp.array([[0.0, 1.0, 1.2]]), 0.1)
    np.testing.assert_allclose(moved, [[0.45, 0.55, 0.0]], atol=1e-6)


def test_unknown_rules_are_named():
    with pytest.raises(InputError, match="unknown rule 'pdi'; did you mean 'pid'"):
        penalty_of("pdi")
