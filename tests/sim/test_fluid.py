"""The fluid model: closed forms, the same switches as in the task model, slopes against differences."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.caches import lru_misses
from tests.references.queues import erlang_b
from torta_jax import schedulers, workload
from torta_jax.cluster import random_cluster
from torta_jax.evaluate.rollout import numbers
from torta_jax.learn.recipes import KINDS
from torta_jax.learn.worlds import random_world
from torta_jax.schedulers.tuned import with_numbers
from torta_jax.sim import activation, fluid, fluid_servers
from torta_jax.sim.env import Objective
from torta_jax.sim.simulate import advance, start
from torta_jax.sim.slot import make_world
from torta_jax.sim.state import Physics, initial_state
from torta_jax.workload.scenario import Failure, Surge, compile
from torta_jax.workload.synthetic import padding_for

REGIONS, SERVERS, SLOTS = 5, 8, 24
EVENTS = [Surge(8, 4, 3.0), Failure(14, 4, [2])]


def world_of(seed=0, load=0.5, events=EVENTS):
    cluster = random_cluster(jax.random.key(seed), REGIONS, SERVERS)
    scenario = compile(events, SLOTS, REGIONS)
    return make_world(cluster, workload.Synthetic.create(load=load), scenario, jax.random.key(100 + seed), SLOTS)


@jax.jit
def play(world, policy):
    def step(flows, _):
        after, metrics = fluid.run_slot(world, Physics(), policy, flows)
        return after, (after.replace(policy=()), metrics)

    return jax.lax.scan(step, fluid.reset(world, Physics(), policy), None, length=SLOTS)[1]


def policy(name="torta"):
    return numbers(schedulers.get(name))


@pytest.mark.parametrize("name", ["torta", "torta-paper", "skylb"])
def test_what_arrives_is_served_waits_or_is_dropped(name):
    flows, slots = play(world_of(load=0.9), policy(name))
    backlog = np.asarray(flows.backlog.sum(axis=-1))
    before = np.concatenate([[0], backlog[:-1]])
    gone = np.asarray(slots.completed + slots.dropped[:, 0])
    np.testing.assert_allclose(before + np.asarray(slots.arrived), gone + backlog, rtol=1e-5, atol=1e-3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slots))


def test_the_work_that_is_done_is_the_time_that_servers_are_busy():
    """Lane seconds by the two ways of counting them agree where no server is full."""
    world = world_of(load=0.3, events=[])
    flows, slots = play(world, policy())
    lanes = world.cluster.lane_mask.sum(axis=-2)
    cold = jax.vmap(lambda on, starts: fluid.warm_share(world.cluster, on, starts, 45.0))(flows.on, flows.starts)
    busy_s = (flows.busy * cold * lanes).sum(axis=(1, 2)) * 45
    np.testing.assert_allclose(busy_s[2:], slots.inference_s[2:], rtol=0.03)


def test_an_idle_fleet_draws_its_idle_watts():
    world = world_of(load=0.0, events=[])
    still = with_numbers(schedulers.get("torta"), {"activation": {"cooldown_s": 1e9}})  # never switches off
    _, slots = play(world, numbers(still))
    watts = jnp.where(world.cluster.server_mask, world.cluster.idle_w, 0.0).sum()
    np.testing.assert_allclose(slots.energy_kwh, watts * 45 / 3.6e6, rtol=1e-3)


def test_where_no_server_is_warm_the_lane_time_is_that_measured_before():
    world = world_of()
    regions, nothing = jnp.ones(REGIONS), jnp.zeros(world.cluster.server_mask.shape)
    served = fluid_servers.serve(
        world,
        partial(policy().affinity, policy().init(world.cluster)),
        5 * regions,
        regions,
        nothing,
        nothing,
        7 * regions,
        45.0,
    )
    np.testing.assert_array_equal(served.service_s, 7.0)
    np.testing.assert_array_equal(served.loading_s, 0.0)
    np.testing.assert_array_equal(served.share, 0.0)


@pytest.mark.parametrize("holds", [1, 2, 5])
def test_a_server_alone_loads_the_models_that_its_memory_has_lost(holds):
    """Popularity 1 / rank, the least recently used goes first: T4, V100 and A100."""
    popularity = 1 / np.arange(1, 9)
    asked = np.random.default_rng(0).choice(8, 20_000, p=popularity / popularity.sum())
    found = fluid_servers.loads(0.3, holds / 8, 1.0, 0.5)
    assert float(found) == pytest.approx(lru_misses(asked.tolist(), holds), abs=0.05)


def test_short_tasks_of_a_large_region_hardly_load_and_long_ones_do():
    short, long = (float(fluid_servers.loads(run, 4.0, 10.0, 0.6)) for run in (0.3, 2.0))
    assert short < 0.005 < 0.05 < long < 0.12


def test_a_server_is_warm_when_its_warm_up_is_over():
    cluster = random_cluster(jax.random.key(0), 1, 3)
    cluster = cluster.replace(warmup_s=jnp.asarray([[45.0, 100.0, 180.0]]))
    on = jnp.ones((1, 3))
    starts = jnp.zeros((fluid.WARMING_SLOTS, 1, 3)).at[0].set(1.0)
    shares = []
    for _ in range(5):
        shares.append(fluid.warm_share(cluster, on, starts, 45.0)[0])
        starts = jnp.concatenate([jnp.zeros((1, 1, 3)), starts[:-1]])
    in_slot = np.clip((np.arange(1, 6)[:, None] * 45 - np.array([45, 100, 180])) / 45, 0, 1)
    np.testing.assert_allclose(shares, in_slot, atol=1e-5)


def test_without_a_queue_lanes_work_what_there_is_until_they_are_full():
    load = jnp.asarray([0.0, 1e-6, 0.3, 0.9, 1.0, 1.1, 20.0])
    found = load * fluid_servers.worked(load, jnp.zeros(7))
    np.testing.assert_allclose(found, jnp.minimum(load, 1.0), rtol=1e-6)


def test_of_hardly_any_work_an_idle_region_does_all():
    for work in (0.0, 1e-5, 0.01, 0.1):
        taken, share = fluid_servers.poured(jnp.full((1, 4), work), jnp.full((1, 4), 45.0), jnp.asarray([0.2]))
        assert share[0] == pytest.approx(1.0, abs=1e-3)
        np.testing.assert_allclose(taken, work, atol=1e-4 * work)


def slots_of(load: float, left: float, slots: int) -> list[float]:
    """What waits after each of some slots in which as much comes, in slots of a region's time."""
    found = []
    for _ in range(slots):
        left = (load + left) * (1 - float(fluid_servers.worked(jnp.asarray(load + left), jnp.asarray(0.2))))
        found.append(left)
    return found


@pytest.mark.parametrize("load", [0.5, 0.7, 0.9])
def test_where_as_much_comes_in_every_slot_the_queue_that_stays_is_that_of_its_utilisation(load):
    left = slots_of(load, 0.0, 400)[-1]
    busy = min(load + left, 1.0) ** fluid_servers.STEEP  # of the load that has what waited in it
    assert left == pytest.approx(fluid_servers.QUEUE * 0.2 * busy * load**2 / (1 - load), rel=0.01)


def test_a_region_that_was_full_waits_longer_for_some_slots():
    waits = slots_of(0.6, 2.0, 12)
    assert waits[0] > waits[2] > waits[4] > 10 * waits[-1]


def test_with_several_copies_of_every_model_tasks_wait_the_shorter_the_more_there_are():
    cluster = random_cluster(jax.random.key(0), 1, 24)
    some = workload.Synthetic.create()
    waits = [
        float(fluid_servers.holders_wait(cluster, some, jnp.full((1, 24), share), jnp.asarray([0.5]), 10.0)[0])
        for share in (0.02, 0.3, 0.6, 1.0)
    ]
    assert waits[1] > waits[2] > waits[3] > 0
    assert waits[1] > waits[0]  # with hardly any copy tasks load theirs


@pytest.mark.parametrize("kind", ["calm", "light"])
def test_flows_wait_run_and_cost_what_tasks_do(kind):
    slots, skipped = 60, 12
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(4))
    worlds = jax.jit(jax.vmap(lambda key: random_world(key, KINDS[kind], 12, 24, slots)))(keys)
    room = padding_for(float(worlds.prepared.cumulative_rate[..., -1].max()), 1e-6)
    worlds = worlds.replace(workload=worlds.workload.replace(max_tasks=room))
    physics = Physics().sized(jax.tree.map(lambda x: x[0], worlds.cluster), room, 4.0)

    def in_tasks(world):
        return advance(world, physics, policy(), start(world, physics, policy()), slots, axis_name="worlds")[1]

    flows = jax.jit(jax.vmap(lambda world: fluid.simulate(world, Physics(), policy(), slots)[1]))(worlds)
    tasks = jax.jit(jax.vmap(in_tasks, axis_name="worlds"))(worlds)

    def per_task(found, name):
        total = jax.tree.map(lambda x: x[:, skipped:].sum(), found)
        return float(getattr(total, name) / total.completed)

    # Short tasks of nearly empty regions wait for one or two servers, of which the fluid model makes too little.
    response = {"calm": 0.1, "light": 0.15}[kind]
    for name, within in {"inference_s": 0.06, "response_s": response, "power_cost_usd": 0.06}.items():
        assert per_task(flows, name) == pytest.approx(per_task(tasks, name), rel=within), name
    assert per_task(flows, "model_load_s") == pytest.approx(per_task(tasks, "model_load_s"), rel=0.45)
    few = {"calm": None, "light": 0.25}[kind]
    assert per_task(flows, "wait_s") == pytest.approx(per_task(tasks, "wait_s"), rel=0.45, abs=few)


@pytest.mark.parametrize("limit", [2, 10, 30])
@pytest.mark.parametrize("load", [0.3, 0.7, 1.0, 1.6])
def test_a_full_region_refuses_what_erlangs_loss_formula_says(limit, load):
    found = fluid.refused(jnp.asarray([limit + fluid.HALF]), jnp.asarray([load * limit]))[0]
    within = 0.08 if limit < 5 else 0.03  # a normal approximation
    assert found == pytest.approx(erlang_b(limit, load * limit), abs=within)


def test_nobody_is_refused_or_lost_where_all_are_full_or_no_rule_acts():
    world, flows = world_of(), fluid.reset(world_of(), Physics(), policy())
    warm, alive = jnp.where(world.cluster.server_mask, 1.0, 0.0), jnp.ones(REGIONS, bool)
    sent = jax.random.uniform(jax.random.key(0), (REGIONS, REGIONS), maxval=100.0)
    for rule, backlog in ((schedulers.get("torta").rule, 1e4), (schedulers.get("torta-paper").rule, 0.0)):
        full = flows.replace(backlog=jnp.full(REGIONS, backlog))
        found = fluid.overflow(world.cluster, rule, full, alive, warm, sent, 45.0)
        np.testing.assert_allclose(found, sent, rtol=1e-3)


def test_what_a_full_region_refuses_goes_to_the_others():
    world, flows = world_of(), fluid.reset(world_of(), Physics(), policy())
    warm, alive = jnp.where(world.cluster.server_mask, 1.0, 0.0), jnp.ones(REGIONS, bool)
    sent = jnp.full((REGIONS, REGIONS), 0.1).at[:, 2].set(4.0)
    flows = flows.replace(backlog=flows.backlog.at[2].set(100.0))
    found = fluid.overflow(world.cluster, schedulers.get("torta").rule, flows, alive, warm, sent, 45.0)
    np.testing.assert_allclose(found.sum(axis=1), sent.sum(axis=1), rtol=1e-5)
    assert found[:, 2].sum() < 0.01
    assert (found >= 0).all()


class Wanting(schedulers.Rules):
    """Wants some numbers of servers [R], whatever happens."""

    wanted: Any = None

    def demand(self, state, observation, matrix):
        lanes = observation.cluster.lane_mask.sum(axis=(-2, -1)) / observation.cluster.server_mask.sum(axis=-1)
        return (self.wanted - 0.5) * lanes * observation.slot_s / observation.service_s


@pytest.mark.parametrize("before", ["all off", "all on", "half on"])
@pytest.mark.parametrize("count", range(1, SERVERS + 1, 2))
def test_the_same_target_switches_the_same_servers_in_both_models(before, count):
    """By the order of starting, and the least used first where some are stopped."""
    cluster = random_cluster(jax.random.key(4), REGIONS, SERVERS)
    state = initial_state(cluster, Physics(), schedulers.get("torta"), 8, 0)
    rule, even = activation.ActivationRule(sigma=0.0), jnp.full((REGIONS, 3), 1 / 3)
    luck = jax.random.uniform(jax.random.key(5), (2, REGIONS, SERVERS))
    active = cluster.server_mask & (luck[0] < {"all off": 0.0, "all on": 1.0, "half on": 0.5}[before])
    alive, none, wanted = jnp.ones(REGIONS, bool), jnp.zeros(REGIONS), jnp.full(REGIONS, float(count))
    servers = state.servers.replace(active=active, utilisation=luck[1])
    servers, _, _ = activation.switch(cluster, rule, servers, wanted, alive, even, none, 45.0)

    trial = numbers(Wanting(activation=rule, wanted=wanted))
    world = world_of().replace(cluster=cluster)
    flows = fluid.reset(world, Physics(), trial)
    flows = flows.replace(slot=jnp.int32(1), on=active.astype(float), busy=luck[1])
    seen = fluid.observe(flows, world, Physics())
    on, started, _ = fluid.scale(trial, flows.policy, seen, jnp.eye(REGIONS), flows)
    np.testing.assert_allclose(on, servers.active, atol=1e-4)
    np.testing.assert_allclose(started, servers.active & ~active, atol=1e-4)


def test_who_waits_and_runs_is_observed_with_the_luck_of_counts():
    """Mean and variance over keys are those of a Poisson and of a binomial number; the means of few tasks vary more."""
    world, count = world_of(), 4000
    means = jnp.array([0.0, 5.0, 20.0, 50.0, 80.0])  # tasks that run, of 100 lanes; and so many wait
    flows = fluid.reset(world, Physics(), policy()).replace(queue=means, running=means)
    worlds = jax.vmap(lambda i: world.replace(key=jax.random.fold_in(world.key, i)))(jnp.arange(count))
    seen = jax.vmap(lambda world: fluid.at_an_instant(world, flows, means / 100))(worlds)
    took = jax.vmap(lambda world: fluid.lane_times(world, jnp.int32(3), means))(worlds)
    np.testing.assert_allclose(seen.mean(axis=0), [means, means], atol=0.1, rtol=0.02)
    np.testing.assert_allclose(seen.var(axis=0), [means, 100 * (means / 100) * (1 - means / 100)], rtol=0.1)
    np.testing.assert_allclose(took.mean(axis=0), 1, rtol=0.02)
    np.testing.assert_allclose(took.var(axis=0), fluid.DIVERSE / np.maximum(means, 1), rtol=0.15)


def test_arrivals_are_poisson_numbers_also_where_hardly_any_come():
    world, count = world_of(), 20_000
    rates = np.array([0.0, 0.2, 1.0, 6.0, 50.0])
    world = world.replace(prepared=world.prepared.replace(rate=jnp.asarray(rates)[None]))
    worlds = jax.vmap(lambda i: world.replace(key=jax.random.fold_in(world.key, i)))(jnp.arange(count))
    found = np.asarray(jax.jit(jax.vmap(lambda world: fluid.counts(world, jnp.int32(0))))(worlds))
    np.testing.assert_allclose(found.mean(axis=0), rates, rtol=0.04)
    np.testing.assert_allclose(found.var(axis=0), rates, rtol=0.06)
    np.testing.assert_allclose((found == 0).mean(axis=0), np.exp(-rates), atol=0.015)


def test_an_end_of_a_region_sends_nobody_there():
    world = world_of(events=[Failure(4, 6, [1])])
    flows, _ = play(world, policy())
    np.testing.assert_allclose(flows.shares[4:10, :, 1], 0, atol=1e-3)
    np.testing.assert_array_equal(flows.on[4:10, 1], 0)


def altered(x):
    """`torta` with five of its numbers from x, without a toll."""
    base = policy()
    transport = base.transport.replace(utilisation=x[0], smoothing=x[1], latency_weight=x[2])
    scaling = base.activation.replace(utilisation=x[3], sigma=x[4])
    return base.replace(transport=transport, activation=scaling, toll=base.toll.replace(weight=0.0))


def test_slopes_are_those_of_central_differences(monkeypatch):
    """Of the objective in a policy's numbers, in double precision, where no number is at a kink.

    Slopes leave out how busy servers were a slot or a round ago: here nothing depends on it.
    """
    monkeypatch.setattr(fluid_servers, "ROUNDS", 1)
    with jax.enable_x64(True):
        world = world_of(events=[Surge(3, 2, 1.5)])

        @jax.jit
        def cost(x):
            trial = altered(x)

            def step(flows, _):
                forgetful = flows.replace(busy=jnp.zeros_like(flows.busy))
                flows, slot = fluid.run_slot(world, Physics(), trial, forgetful)
                return flows, Objective().cost(slot)

            return jax.lax.scan(step, fluid.reset(world, Physics(), trial), None, length=6)[1].sum()

        x = jnp.asarray([0.8, 2.0, 0.1, 0.8, 3.0])
        slope, step = jax.grad(cost)(x), 1e-5
        for i in range(5):
            ends = [float(cost(x.at[i].add(sign * step))) for sign in (1, -1)]
            assert float(slope[i]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_open_loop_slopes_are_differences_with_what_is_known_held_fixed(monkeypatch):
    """What every slot's decision is made from is held, but for the matrix in force, a share of which is kept.

    In double precision, without what slopes always leave out.
    """
    monkeypatch.setattr(fluid_servers, "ROUNDS", 1)
    observe = fluid.observe
    with jax.enable_x64(True):
        world = world_of(events=[Surge(3, 2, 1.5)])

        def episode(x, known=None):
            trial, flows, seen, total = altered(x), None, [], 0.0
            for slot in range(6):
                flows = fluid.reset(world, Physics(), trial) if flows is None else flows
                flows = flows.replace(busy=jnp.zeros_like(flows.busy))
                seen.append(flows)
                if known is not None:

                    def held(now, *rest, then=known[slot]):
                        return observe(then.replace(matrix=now.matrix), *rest)

                    monkeypatch.setattr(fluid, "observe", held)
                    flows = flows.replace(policy=known[slot].policy)
                flows, metrics = fluid.run_slot(world, Physics(), trial, flows, open_loop=True)
                total += Objective().cost(metrics)
            return total, seen

        x = jnp.asarray([0.8, 2.0, 0.1, 0.8, 3.0])
        slope, known = jax.jit(jax.grad(episode, has_aux=True))(x)
        again, step = jax.jit(lambda x: episode(x, known)[0]), 1e-5
        for i in range(5):
            ends = [float(again(x.at[i].add(sign * step))) for sign in (1, -1)]
            assert float(slope[i]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-4)


def test_slopes_are_finite_without_demand_and_without_capacity():
    base = policy()

    @jax.jit
    @jax.value_and_grad
    def cost(utilisation, world):
        trial = base.replace(transport=base.transport.replace(utilisation=utilisation))
        _, slots = fluid.simulate(world, Physics(), trial, SLOTS)
        return Objective().cost(jax.tree.map(lambda x: x.sum(axis=0), slots))

    for load, events in ((0.0, []), (3.0, EVENTS)):
        value, slope = cost(jnp.asarray(0.8), world_of(load=load, events=events))
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope)
