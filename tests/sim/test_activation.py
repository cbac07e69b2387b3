"""How many servers are on, and which: Eq 6, the ranking, the cool-down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references.clusters import reference_cluster
from torta_jax import schedulers
from torta_jax.cluster import build
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import Rules
from torta_jax.sim.activation import ActivationRule, first_ranked, switch, target
from torta_jax.sim.simulate import simulate
from torta_jax.sim.slot import make_world, reset, run_slot
from torta_jax.sim.state import NEVER_S, Physics, initial_state
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import Failure
from torta_jax.workload.scenario import compile as compile_scenario

SLOT_S = 45.0
LONG_AGO_S = -3600.0


def test_target_is_eq_6():
    rule = ActivationRule(sigma=2.0, utilisation=0.5)
    demand, waiting, service_s = jnp.array([0.0, 9.0, 100.0]), jnp.array([0, 2, 10]), jnp.array([15.0, 10.0, 30.0])
    found = target(rule, demand, waiting, service_s, 2.0, SLOT_S)
    # tasks per server and slot: 45 · 2 / service · 0.5 = 3, 4.5, 1.5; tasks: 0, 2 + 9 + 2·3, 10 + 100 + 2·10
    np.testing.assert_array_equal(found, [0, np.ceil(17 / 4.5), np.ceil(130 / 1.5)])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=6, max_size=6), st.integers(0, 7))
def test_first_ranked_is_the_head_of_a_stable_sort(servers, count):
    score, eligible = np.array(servers).T
    order = sorted(np.flatnonzero(eligible), key=lambda s: -score[s])[:count]
    found = first_ranked(jnp.asarray(score, float)[None], jnp.asarray(eligible, bool)[None], jnp.array([count]))[0]
    np.testing.assert_array_equal(np.flatnonzero(found), np.sort(order))


@pytest.mark.parametrize("batch", [8, 64])
def test_compiled_in_a_batch_as_many_servers_start_as_are_asked_for(batch):
    """On a real fleet, whose scores differ in last bits: a compiler that computes one twice must not lose a server."""
    cluster = build("abilene")
    servers = initial_state(cluster, Physics(), Rules(), 2, 1).servers
    servers = servers.replace(active=jnp.zeros_like(servers.active))
    regions = cluster.num_regions

    def on_after(cluster, free_s, wanted, kind_share):
        alive, cooling_s = jnp.ones(regions, bool), jnp.zeros(regions)
        before = servers.replace(free_s=free_s)
        after, *_ = switch(cluster, ActivationRule(), before, wanted, alive, kind_share, cooling_s, SLOT_S)
        return after.active.sum(axis=-1)

    rng = np.random.default_rng(0)
    wanted = rng.integers(1, 4, (batch, regions)).astype(np.float32)
    kind_share = rng.dirichlet([100] * 3, (batch, regions)).astype(np.float32)
    free_s = jnp.full((batch, *servers.free_s.shape), LONG_AGO_S)
    found = jax.jit(jax.vmap(on_after, in_axes=(None, 0, 0, 0)))(cluster, free_s, wanted, kind_share)
    np.testing.assert_array_equal(found, wanted)


def test_compiled_in_a_run_no_live_region_is_without_a_server():
    cluster, demand = build("abilene"), Synthetic.create()
    scenario = compile_scenario([Failure(2, 4, regions=[1, 3, 5, 7, 9])], 12, cluster.num_regions)

    def servers_on(cluster, demand, scheduler, key):
        kept = simulate(
            cluster, demand, scheduler, key, scenario=scenario, keep=lambda record: record.servers.active.sum(axis=-1)
        )
        return kept[1][1]

    run = jax.jit(jax.vmap(servers_on, in_axes=(None, None, None, 0)))
    on = np.asarray(run(cluster, demand, schedulers.get("torta"), jax.random.split(jax.random.key(3), 4)))
    np.testing.assert_array_equal(on >= 1, np.broadcast_to(scenario.alive, on.shape))


def region(on, warmup_s=60.0, servers=4):
    cluster = reference_cluster(1, servers).replace(warmup_s=jnp.full((1, servers), warmup_s))
    state = initial_state(cluster, Physics(carry_tasks=1), Rules(), 2, 1)
    warm_s = jnp.full_like(state.servers.warm_s, LONG_AGO_S)
    return cluster, state.servers.replace(active=jnp.arange(servers)[None] < on, warm_s=warm_s)


def move(cluster, rule, servers, wanted, cooling_s=0.0, alive=True):
    wanted, alive, cooling_s = jnp.array([wanted]), jnp.array([alive]), jnp.array([cooling_s])
    return switch(cluster, rule, servers, wanted, alive, jnp.full((1, 3), 1 / 3), cooling_s, SLOT_S)


def test_a_server_that_starts_is_warm_after_its_warm_up_and_has_an_empty_memory():
    cluster, servers = region(on=1)
    servers = servers.replace(used_s=jnp.zeros_like(servers.used_s), heat=servers.heat + 1, recent=servers.recent + 1)
    after, cold, _ = move(cluster, ActivationRule(), servers, wanted=3)
    np.testing.assert_array_equal(cold[0], [False, True, True, False])
    np.testing.assert_array_equal(after.active[0], [True, True, True, False])
    np.testing.assert_array_equal(after.warm_s[0], [LONG_AGO_S, 60, 60, LONG_AGO_S])
    np.testing.assert_array_equal(after.used_s[0, 0], [0, NEVER_S, NEVER_S, 0])
    np.testing.assert_array_equal(after.recent[0], [1, 0, 0, 1])
    np.testing.assert_array_equal(after.heat[0, 0], [1, 0, 0, 1])


def test_a_server_that_still_drains_is_kept_on_without_a_cold_start_and_before_others():
    cluster, servers = region(on=1)
    servers = servers.replace(free_s=jnp.array([[[0.0, -5.0, -5.0, 20.0]]]))
    after, cold, _ = move(cluster, ActivationRule(), servers, wanted=2)
    np.testing.assert_array_equal(after.active[0], [True, False, False, True])
    assert not cold.any()


def test_the_server_idle_for_longest_stops_first():
    cluster, servers = region(on=4)
    servers = servers.replace(free_s=jnp.array([[[-5.0, -90.0, 10.0, -30.0]]]))
    after, _, _ = move(cluster, ActivationRule(), servers, wanted=2, cooling_s=1.0)
    np.testing.assert_array_equal(after.active[0], [True, False, True, False])


def test_a_server_that_has_just_been_started_does_not_stop_first():
    cluster, servers = region(on=3)
    servers = servers.replace(free_s=jnp.array([[[-100.0, -90.0, -80.0, -1800.0]]]))  # the last was off for long
    after, cold, _ = move(cluster, ActivationRule(), servers, wanted=4)
    assert cold[0, 3]
    after, _, _ = move(cluster, ActivationRule(), after.shifted(SLOT_S), wanted=3, cooling_s=1.0)
    np.testing.assert_array_equal(after.active[0], [False, True, True, True])


def test_starts_and_stops_are_gradual():
    cluster, servers = region(on=2)
    rule = ActivationRule(max_starts=1.0, max_stops=1.0)
    assert move(cluster, rule, servers, wanted=4)[0].active.sum() == 3
    assert move(cluster, rule, servers, wanted=0, cooling_s=1.0)[0].active.sum() == 1


def test_nothing_stops_before_the_cool_down_is_over_and_needing_all_servers_resets_it():
    cluster, servers = region(on=3)
    rule, cooling_s, on = ActivationRule(cooldown_s=90.0), 0.0, []
    for wanted in (1, 1, 3, 1, 1, 1):
        servers, _, clock = move(cluster, rule, servers, wanted, cooling_s)
        cooling_s = float(clock[0])
        on.append(int(servers.active.sum()))
    assert on == [3, 3, 3, 3, 3, 1]


def test_a_dead_region_starts_nothing():
    cluster, servers = region(on=0)
    assert not move(cluster, ActivationRule(), servers, wanted=4, alive=False)[0].active.any()


@pytest.mark.parametrize("wanted", [-3, 99])
def test_targets_are_cut_to_the_fleet_and_to_one_server(wanted):
    cluster, servers = region(on=2)
    after, _, _ = move(cluster, ActivationRule(), servers, wanted, cooling_s=1.0)
    assert after.active.sum() == (1 if wanted < 0 else 4)


def test_servers_and_the_next_plan_follow_the_routing_in_force_when_a_region_is_down():
    asked = []

    class Asked(Rules):
        def demand(self, state, observation, matrix):
            asked.append(matrix)
            return super().demand(state, observation, matrix)

    cluster, physics = reference_cluster(3, 2), numbers(Physics(carry_tasks=64, region_tasks=64))
    scenario = compile_scenario([Failure(1, 1, (0,))], 2, 3)
    world = make_world(cluster, Synthetic.create(max_tasks=64), scenario, jax.random.key(0), 2)
    policy = numbers(Asked())
    all_to_0 = jnp.zeros((3, 3)).at[:, 0].set(1.0)

    @jax.jit
    def slot(state, totals):
        state, totals, *_ = run_slot(world, physics, policy, state, totals, matrix=all_to_0)
        return state, totals, asked.pop()

    first, totals, before = slot(*reset(world, physics, policy))
    second, _, after = slot(first, totals)
    np.testing.assert_allclose([before, after], [all_to_0, [[0, 0.5, 0.5]] * 3])
    np.testing.assert_array_equal(second.matrix, after)
