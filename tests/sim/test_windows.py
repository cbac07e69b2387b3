"""The slot model's auction: who wins which lane of a window, against the exact optimum, and what waits for the next."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tests.references import region
from tests.references.clusters import reference_cluster
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import Outlook, Rules, Toll
from torta_jax.sim.affinity import Weights
from torta_jax.sim.service import UNDECIDED, Batch, Fleet
from torta_jax.sim.state import Physics, initial_state
from torta_jax.sim.windows import EPSILON_S, FEWEST, bid

SLOT_S, MODEL_LOAD_S = 45.0, 4.0
POLICY = Rules(weights=Weights(wait=1.0, service=1.0), toll=Toll(weight=1.0), max_wait_s=1000.0, by_auction=True)


def one_region(servers, lanes, speed, free, on):
    """One region of servers without a model, and its state."""
    cluster = reference_cluster(1, servers, lanes)
    cluster = cluster.replace(decode_speed=speed[None], switch_s=jnp.full((1, servers), MODEL_LOAD_S))
    state = initial_state(cluster, Physics(carry_tasks=1), POLICY, 1, 0).servers
    return cluster, state.replace(free_s=free[None], active=on[None])


def tasks(ready, arrival, work):
    def column(x, dtype):
        return jnp.broadcast_to(jnp.asarray(x, dtype).reshape(-1, 1), (len(ready), 1))

    return Batch(
        mask=column(True, bool),
        arrival_s=column(arrival, float),
        ready_s=column(ready, float),
        deadline_s=column(900.0, float),
        kind=column(0, jnp.int32),
        model=column(0, jnp.int32),
        prefill_s=column(0.0, float),
        decode_s=column(work, float),
        embedding=jnp.zeros((len(ready), 1, 0)),
        started=column(False, bool),
        forced=column(UNDECIDED, jnp.int32),
    )


@jax.jit
def winners(cluster, servers, batch, busy):
    state = Outlook(jnp.zeros(1), jnp.zeros(1), busy[None])
    fleet = Fleet(cluster, jnp.ones(1), numbers(Physics(carry_tasks=1)), jnp.ones(1))
    return bid(fleet, numbers(POLICY), state, servers, batch, 0.0, max_rounds=1000)[0][:, 0]


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("bidders", [3, 9, 20])
def test_a_window_is_matched_as_well_as_an_exact_assignment_of_lanes_but_for_a_second_per_task(bidders, lanes):
    rng, servers = np.random.default_rng(bidders), 6
    for _ in range(20):
        speed, busy = rng.uniform(0.3, 1.5, servers), rng.uniform(0, 1, servers)
        free, on = rng.uniform(0, 60, (lanes, servers)), rng.random(servers) < 0.8
        ready, work = np.sort(rng.uniform(0, 9, bidders)), rng.exponential(8, bidders)
        arrival = ready - rng.exponential(20, bidders)
        cluster, state = one_region(servers, lanes, *(jnp.asarray(x) for x in (speed, free, on)))
        found = np.asarray(winners(cluster, state, tasks(ready, arrival, work), jnp.asarray(busy)))

        # Seconds that each task costs on each lane, and without one.
        inference = (MODEL_LOAD_S + work[:, None] / speed) * (1 + busy**2)
        wait = np.maximum(np.sort(free, axis=0) - ready[:, None, None], 0)
        cost = np.where(on, inference[:, None] + wait, 1e6)
        without = SLOT_S + ready - arrival
        alone = np.where(np.eye(bidders, dtype=bool), without[:, None], 1e6)
        square = np.append(cost.reshape(bidders, -1), alone, axis=1)
        least = square[linear_sum_assignment(square)].sum()

        taken = {server: np.flatnonzero(found == server) for server in range(servers)}
        assert max(len(some) for some in taken.values()) <= lanes
        own = without[found < 0].sum()
        for server, some in taken.items():
            columns = itertools.permutations(range(lanes), len(some))
            own += min(cost[some, list(each), server].sum() for each in columns)
        assert least - 1e-3 <= own <= least + bidders * EPSILON_S


def decided(tasks, speeds=(1.0,), max_wait_s=1000.0, **more):
    """What becomes of (arrival, work) tasks, and their places among the decisions."""
    policy = POLICY.replace(max_wait_s=max_wait_s)
    return region.decided([(at_s, at_s + 900, work) for at_s, work in tasks], policy, "slot", speeds, **more)


def test_the_task_that_gains_more_gets_the_fast_server_though_it_comes_later():
    """The first to come would take the fast server, where it saves 5 s; the other saves 20 s there."""
    assert decided([(0.0, 5.0), (1.0, 20.0)], speeds=(1.0, 0.5))[0] == [(1, 0.0), (0, 1.0)]


def test_a_longer_queue_than_the_policy_allows_is_none_to_bid_for():
    assert decided([(0.0, 30.0), (0.0, 3.0)], max_wait_s=2.0)[0] == [None, (0, 0.0)]
    assert decided([(0.0, 30.0), (0.0, 3.0)], max_wait_s=3.0)[0] == [(0, 3.0), (0, 0.0)]


def test_those_who_want_no_lane_keep_nobody_from_bidding():
    found, _ = decided([(0.0, 2.5 * SLOT_S)] * FEWEST + [(1.0, 3.0)])
    assert found == [None] * FEWEST + [(0, 1.0)]


def test_how_many_may_bid_does_not_depend_on_servers_that_are_not_there():
    crowd = [(0.0, 20.0)] * (FEWEST + 4) + [(0.0, 1.0)]
    alone, padded = decided(crowd), decided(crowd, servers=41)
    assert alone[0] == padded[0]
    assert alone[0][-1] not in (None, (0, 0.0)), "the last is to bid, but not in the first window"


def test_in_a_window_a_lane_takes_one_task_and_the_loser_may_have_it_after_those_of_the_next():
    found, order = decided([(0.0, 30.0), (0.0, 3.0), (10.0, 3.0)])
    assert sorted(order) == sorted(set(order)), "two decisions at once"
    assert found == [(0, 13.0), (0, 0.0), (0, 10.0)]


def test_a_task_stays_in_the_buffer_where_every_lane_would_keep_it_longer_than_a_slot_and_its_age():
    """At the end of a slot in which it arrived at once its age is a slot."""
    assert decided([(0.0, 2.1 * SLOT_S)])[0] == [None]
    assert decided([(0.0, 1.9 * SLOT_S)])[0] == [(0, 0.0)]
    assert decided([(-0.2 * SLOT_S, 2.1 * SLOT_S)])[0] == [(0, 0.0)]
