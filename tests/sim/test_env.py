"""The environment contract, clause by clause."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.worlds import Size, random_world
from torta_jax import schedulers
from torta_jax.errors import InputError
from torta_jax.evaluate.rollout import numbers
from torta_jax.sim.env import Env, EnvParams, Objective
from torta_jax.sim.simulate import simulate
from torta_jax.sim.state import Physics

SIZE = Size(regions=3, servers=3, lanes=1, slots=6, max_tasks=64, carry_tasks=64, region_tasks=32)
ENV, KEY = Env(), jax.random.key(4)
STEP, RESET = jax.jit(ENV.step), jax.jit(ENV.reset)


@pytest.fixture(scope="module")
def params():
    cluster, workload, scenario, physics = jax.jit(random_world, static_argnums=1)(jax.random.key(1), SIZE)
    return EnvParams(cluster, workload, scenario, numbers(schedulers.get("torta")), physics)


@pytest.fixture(scope="module")
def begun(params):
    return RESET(KEY, params)


def play(params, state, action, key=KEY):
    """Everything `step` returns, slot after slot, to the end."""
    steps = []
    for _ in range(SIZE.slots):
        steps.append(STEP(key, state, action, params))
        state = steps[-1][1]
    return steps


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(data, a), jax.tree.map(data, b))


def data(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def test_reset_returns_an_observation_and_a_state(params, begun):
    observation, state = begun
    assert observation.shape == (5 * SIZE.regions + 2 * SIZE.regions**2,)
    assert np.isfinite(observation).all()
    assert state.state.slot == 0


def test_step_returns_observation_state_reward_terminated_truncated_and_info(params, begun):
    observation, state, reward, terminated, truncated, info = STEP(KEY, begun[1], jnp.eye(3), params)
    assert (reward.shape, terminated.shape, truncated.shape) == ((), (), ())
    assert (terminated.dtype, truncated.dtype) == (bool, bool)
    assert state.state.slot == 1
    assert set(info) == {"metrics", "final_observation"}
    assert observation.shape == begun[0].shape


def test_observations_keep_their_shape_and_type_and_are_finite(params, begun):
    for observation, *_ in play(params, begun[1], jnp.eye(3)):
        assert (observation.shape, observation.dtype) == (begun[0].shape, begun[0].dtype)
        assert np.isfinite(observation).all()


def test_the_episode_never_terminates_and_is_truncated_when_the_scenario_is_over(params, begun):
    steps = play(params, begun[1], jnp.eye(3))
    assert not any(bool(step[3]) for step in steps)
    assert [bool(step[4]) for step in steps] == [False] * (SIZE.slots - 1) + [True]


def test_nothing_resets_inside_step(params, begun):
    last = play(params, begun[1], jnp.eye(3))[-1]
    assert last[1].state.slot == SIZE.slots
    np.testing.assert_array_equal(last[0], last[5]["final_observation"])


def test_the_key_of_step_changes_nothing(params, begun):
    same(play(params, begun[1], jnp.eye(3)), play(params, begun[1], jnp.eye(3), key=jax.random.key(99)))


def test_the_key_of_reset_decides_the_arrivals(params):
    arrived = {}
    for seed in (4, 4, 5):
        _, state = RESET(jax.random.key(seed), params)
        steps = play(params, state, jnp.eye(3))
        arrived.setdefault(seed, []).append([int(step[5]["metrics"].arrived) for step in steps])
    assert arrived[4][0] == arrived[4][1] != arrived[5][0]


def test_arrivals_do_not_depend_on_the_actions(params, begun):
    home, even = (play(params, begun[1], action) for action in (jnp.eye(3), jnp.ones((3, 3))))
    assert [int(s[5]["metrics"].arrived) for s in home] == [int(s[5]["metrics"].arrived) for s in even]
    assert float(home[-1][2]) != float(even[-1][2])


def test_rows_of_an_action_are_normalised(params, begun):
    action = jnp.array([[1.0, 2.0, 1.0], [0.0, 4.0, 4.0], [3.0, 0.0, 0.0]])
    same(STEP(KEY, begun[1], action, params), STEP(KEY, begun[1], 2 * action, params))
    matrix = STEP(KEY, begun[1], action, params)[1].state.matrix
    np.testing.assert_allclose(matrix, action / action.sum(axis=1, keepdims=True))


def test_negative_shares_count_as_none_and_an_empty_row_keeps_its_tasks_at_home(params, begun):
    action = jnp.array([[-1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, -5.0, -1.0]])
    matrix = STEP(KEY, begun[1], action, params)[1].state.matrix
    np.testing.assert_allclose(matrix, [[0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_the_reward_is_minus_the_objective_of_the_slot(params, begun):
    for *_, reward, _, _, info in play(params, begun[1], jnp.ones((3, 3))):
        m, o = info["metrics"], Objective()
        seconds = m.response_s + o.drop_charge_s * m.dropped.sum() + o.power_s_per_usd * m.power_cost_usd
        seconds = seconds + o.warmup_weight * m.warmup_s
        expected = -(seconds / max(int(m.arrived), 1) + o.switching_weight * m.switching_cost)
        assert float(reward) == pytest.approx(float(expected), rel=1e-5)


def test_an_agent_that_acts_as_the_scheduler_gets_what_simulate_gives(params):
    policy = numbers(schedulers.get("round-robin"))
    params = params.replace(scheduler=policy)
    _, metrics = jax.jit(simulate)(
        params.cluster, params.workload, policy, KEY, scenario=params.scenario, physics=params.physics
    )
    _, state = RESET(KEY, params)
    steps = play(params, state, jnp.ones((3, 3)))
    for name in ("arrived", "completed", "dropped", "running", "queued", "buffered", "server_starts"):
        found = np.stack([getattr(step[5]["metrics"], name) for step in steps])
        np.testing.assert_array_equal(found, getattr(metrics, name), err_msg=name)


def test_without_physics_there_is_room_for_the_fleet_and_its_arrivals(params):
    given = params.replace(physics=None)
    _, state = jax.eval_shape(ENV.reset, KEY, given)
    sized = Physics().sized(params.cluster, SIZE.max_tasks)
    assert state.state.pool.phase.shape == (sized.carry_tasks,)
    after = jax.eval_shape(ENV.step, KEY, state, jnp.eye(SIZE.regions), given)[1]
    assert after.state.pool.phase.shape == (sized.carry_tasks,)


def test_steps_can_be_scanned_and_vmapped(params):
    def episode(key):
        def step(state, _):
            _, state, reward, *_ = ENV.step(key, state, jnp.eye(3), params)
            return state, reward

        return jax.lax.scan(step, ENV.reset(key, params)[1], None, length=SIZE.slots)[1]

    rewards = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 3))
    assert rewards.shape == (3, SIZE.slots)
    assert np.isfinite(rewards).all()


def test_an_action_of_another_shape_is_named(params, begun):
    with pytest.raises(InputError, match=r"action: a matrix \(3, 3\) is needed, its shape is \(3,\)"):
        ENV.step(KEY, begun[1], jnp.ones(3), params)


def test_the_action_shape_is_regions_by_regions(params):
    assert ENV.action_shape(params) == (SIZE.regions, SIZE.regions)
