"""Which server and which region each policy picks, where that can be reasoned out by hand."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from torta_jax import schedulers
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.torta import EQ_7
from torta_jax.sim.dispatch import RegionLoad, first_choice, live_matrix, overflow
from torta_jax.sim.observe import observe
from torta_jax.sim.service import UNDECIDED, Batch, Fleet, begin, offers, serve
from torta_jax.sim.state import NEVER_S, Physics, initial_state

PHYSICS = Physics(carry_tasks=1)
MODELS, SERVICE_S = 3, 10.0
offered = jax.jit(offers)


@jax.jit
def served(fleet, policy, state, servers, batch, count):
    return serve(fleet, policy, state, *begin(servers, PHYSICS.slot_s), batch, count)


def tasks(ready, *, model: int | list = 0, kind=0, embedding=(1.0, 0.0), forced: int | list = UNDECIDED):
    """Tasks of 2 s prefill and 8 s decode for one region."""

    def column(x, dtype):
        return jnp.broadcast_to(jnp.asarray(x, dtype).reshape(-1, 1), (len(ready), 1))

    return Batch(
        mask=column(True, bool),
        arrival_s=column(ready, float),
        ready_s=column(ready, float),
        deadline_s=column(900.0, float),
        kind=column(kind, jnp.int32),
        model=column(model, jnp.int32),
        prefill_s=column(2.0, float),
        decode_s=column(8.0, float),
        embedding=jnp.broadcast_to(jnp.asarray(embedding, float), (len(ready), 1, 2)),
        started=column(False, bool),
        forced=column(forced, jnp.int32),
    )


class Region:
    """One region of reference servers, all on, idle and without a model, unless said otherwise per server."""

    def __init__(
        self,
        servers,
        *,
        free=None,  # [S] s, or a row per lane: when the lane is free; negative: idle for so long
        holds=(),  # servers with model 0 in memory
        prefix=None,  # [S] how many tasks like ours each has just served
        others=0,  # [S] and how many that have nothing in common with it
        off=(),
        turn=0,
        **hardware: Any,  # [S] each, `kind_match` [3, S]
    ):
        free = np.atleast_2d(np.zeros(servers) if free is None else np.array(free, float))
        changed = {name: jnp.asarray(value, float)[..., None, :] for name, value in hardware.items()}
        self.cluster = reference_cluster(1, servers, lanes=len(free)).replace(**changed)
        at = np.arange(servers)
        state = initial_state(self.cluster, PHYSICS, schedulers.get("skylb"), MODELS, 2)
        prefix = jnp.zeros(servers) if prefix is None else jnp.asarray(prefix, float)
        self.servers = state.servers.replace(
            free_s=jnp.asarray(free)[None],
            warm_s=jnp.full_like(state.servers.warm_s, -3600.0),
            used_s=state.servers.used_s.at[0, 0].set(jnp.where(np.isin(at, holds), -1.0, NEVER_S)),
            prefix=state.servers.prefix.at[0, 0].set(prefix),
            recent=(prefix + jnp.asarray(others))[None],
            active=jnp.asarray(~np.isin(at, off))[None],
            turn=jnp.array([turn]),
        )

    def fleet(self):
        return Fleet(self.cluster, jnp.full(MODELS, 20.0), PHYSICS, jnp.full(1, SERVICE_S))

    def serve(self, policy, batch):
        """The servers afterwards, and what each task of the batch got."""
        count, state = jnp.array([len(batch.mask)]), policy.init(self.cluster)
        servers, _, got = served(self.fleet(), numbers(policy), state, self.servers, batch, count)
        return servers, got

    def picks(self, policy, *, ready=(0.0,), **task):
        """The servers that tasks ready at these times get, one after the other."""
        return self.serve(policy, tasks(ready, **task))[1].server[:, 0].tolist()

    def after(self, ready, forced, **task):
        """This region after tasks that were ready at these times were given to these servers."""
        self.servers, _ = self.serve(schedulers.get("skylb"), tasks(ready, forced=forced, **task))
        return self

    def offer(self, ready=0.0, **task):
        """What the servers offer a task that is ready then."""
        return offered(self.fleet(), self.servers, jax.tree.map(lambda x: x[0], tasks([ready], **task)))


def patient(name):
    """A policy that minds no queue of up to 90 s, however it was tuned."""
    return schedulers.get(name).replace(max_wait_s=90.0)


# SkyLB


@pytest.mark.parametrize(
    ("why", "region", "picked"),
    [
        (
            "an idle replica before one with the model and the prefix that is busy for a moment",
            {"free": [0.1, 0, 3], "holds": [0, 2], "prefix": [5, 0, 5]},
            1,
        ),
        ("however fast the busy one is and long the idle one loads", {"free": [0.1, 0], "switch_s": [0, 60]}, 1),
        ("a replica is idle if one of its lanes is", {"free": [[0.1, 9, 9], [9, 9, 0]]}, 2),
        ("of the idle ones one with the model, whatever the others' prefix", {"holds": [2], "prefix": [9, 9, 1]}, 2),
        ("of those the longest prefix", {"holds": [0, 2, 3], "prefix": [1, 9, 6, 2], "others": [1, 0, 2, 0]}, 3),
        ("not the one that has served most", {"holds": [0, 1], "prefix": [5, 1], "others": [5, 0]}, 1),
        (
            "none idle: the first to become free, by half a second and whatever it holds",
            {"free": [3, 2, 2.5], "holds": [0, 2], "prefix": [5, 0, 5], "switch_s": [60, 60, 60]},
            1,
        ),
        ("how long it has been idle does not matter", {"free": [-60, 0], "holds": [1]}, 1),
        ("one that is off is not there", {"off": [0], "holds": [0], "free": [0, 3]}, 1),
    ],
)
def test_skylb(why, region, picked):
    servers = np.shape(region.get("free", region.get("prefix")))[-1]
    assert Region(servers, **region).picks(patient("skylb")) == [picked], why


def test_skylb_fills_idle_replicas_first_and_then_queues_where_a_lane_is_free_soonest():
    region = Region(3, holds=[0, 1, 2], decode_speed=[1.0, 2.0, 0.5])  # 10 s, 6 s and 18 s per task
    assert region.picks(patient("skylb"), ready=[0.0] * 6) == [0, 1, 2, 1, 0, 1]


# SDIB


@pytest.mark.parametrize(
    ("why", "region", "picked"),
    [
        ("the least work left, whatever it holds and costs", {"free": [3, 2, 2.5], "holds": [0, 2]}, 1),
        ("of the idle ones the longest idle", {"free": [-5, -90, 3, -30]}, 1),
        ("an idle one before any with work, however briefly it has been idle", {"free": [0.5, 0, 90]}, 1),
        ("whatever prefix it has", {"free": [-5, -9, 3], "prefix": [9, 0, 9], "holds": [0]}, 1),
        ("not the one that would finish first", {"free": [-90, -10], "decode_speed": [0.2, 2], "switch_s": [60, 0]}, 0),
    ],
)
def test_sdib(why, region, picked):
    assert Region(np.shape(region["free"])[-1], **region).picks(patient("sdib")) == [picked], why


# Round-robin


def test_round_robin_takes_the_servers_in_turn_and_starts_over():
    assert Region(3).picks(schedulers.get("round-robin"), ready=[0.0] * 3) == [0, 1, 2]
    region = Region(4, turn=2, free=[-90, -5, 0, 1], holds=[0], decode_speed=[2, 1, 0.5, 1])
    assert region.picks(patient("round-robin"), ready=[0.0] * 6) == [2, 3, 0, 1, 2, 3]


def test_round_robin_skips_servers_that_are_off_or_whose_queue_is_too_long_and_goes_on_from_the_one_served():
    policy = schedulers.get("round-robin")
    longest = float(policy.max_wait_s)
    region = Region(4, turn=1, off=[1], free=[0, 0, longest + 0.5, longest - 0.5])
    assert region.picks(policy) == [3]
    assert region.picks(policy, ready=[0.0, 0.5, 1.0]) == [3, 0, 2]  # half a second later 2 has room again
    assert Region(2, free=[longest + 1] * 2).picks(policy) == [-1]


# Earliest finish


@pytest.mark.parametrize("name", ["torta", "skylb-engineered"])
@pytest.mark.parametrize(
    ("why", "region", "picked"),
    [
        ("10 s on an idle one, or 1 + 6 s on a faster one that is busy", {"free": [0, 1], "decode_speed": [1, 2]}, 1),
        ("10 s on an idle one, or 5 + 6 s", {"free": [0, 5], "decode_speed": [1, 2]}, 0),
        ("20 + 10 s, loading the model, or 19 + 10 s", {"free": [0, 19], "holds": [1], "switch_s": [20, 20]}, 1),
        ("20 + 10 s or 21 + 10 s", {"free": [0, 21], "holds": [1], "switch_s": [20, 20]}, 0),
        ("of equals a hit of the prefix cache saves prefill", {"free": [2, 2], "holds": [0, 1], "prefix": [0, 1]}, 1),
        ("how long it has been idle does not matter", {"free": [-1, -90], "decode_speed": [1.1, 1]}, 0),
    ],
)
def test_earliest_finish(name, why, region, picked):
    assert Region(2, **region).picks(patient(name)) == [picked], why


# Eq 7-10

LIMIT = 1e-5  # float32


def test_eq_8_is_the_match_of_type_and_the_speed_of_the_gpu_up_to_the_reference():
    match = [[1, 0.8, 1, 0.8, 1], [0.8, 1, 0.8, 1, 0.8], [0.1, 0.9, 1, 1, 1]]
    region = Region(5, decode_speed=[1, 1, 0.6, 0.6, 1.5], kind_match=match)
    np.testing.assert_allclose(region.offer(kind=0).hardware[0], [1, 0.5, 0.6, 0.5 * 0.6, 1], rtol=LIMIT)
    np.testing.assert_allclose(region.offer(kind=1).hardware[0], [0.5, 1, 0.5 * 0.6, 0.6, 0.5], rtol=LIMIT)
    np.testing.assert_allclose(region.offer(kind=2).hardware[0], [0.5, 0.5, 0.6, 0.6, 1], rtol=LIMIT)


def test_eq_10_counts_recent_tasks_of_the_model_and_their_likeness_and_both_fade():
    fade = PHYSICS.prefix_decay_per_s
    east, slant = [[[1.0, 0.0]]], [[[0.6, 0.8]]]
    region = Region(2).after([0.0], forced=0, model=0, embedding=east)
    region = region.after([10.0], forced=0, model=0, embedding=slant).after([12.0], forced=0, model=1, embedding=east)
    for now in (12.0, 40.0):
        offer, ages = region.offer(now, model=0), np.array([now, now - 10, now - 12])
        weight = np.exp(-fade * ages)
        np.testing.assert_allclose(offer.heat[0], [weight[0] + weight[1], 0], rtol=LIMIT)
        np.testing.assert_allclose(offer.similarity[0], [float(weight @ [1, 0.6, 1]), 0], rtol=LIMIT)
        np.testing.assert_allclose(region.offer(now, model=1).heat[0], [weight[2], 0], rtol=LIMIT)
    later, servers = region.offer(60.0, model=0), region.servers
    region.servers = servers.faded(PHYSICS, 45.0).shifted(45.0)
    np.testing.assert_allclose(region.offer(15.0, model=0).heat, later.heat, rtol=LIMIT)
    np.testing.assert_allclose(region.offer(15.0, model=0).similarity, later.similarity, rtol=LIMIT)


def test_torta_paper_scores_servers_by_eq_7():
    policy, fade = schedulers.get("torta-paper"), PHYSICS.prefix_decay_per_s
    match = [[1, 1, 0.7], [1, 1, 1], [1, 1, 1]]
    region = Region(3, free=[[25, 0, 0], [30, 0, 40]], decode_speed=[1.0, 0.5, 1.0], kind_match=match)
    region.after([0.0, 5.0], forced=[1, 1])  # its lanes are busy until 18 and 22 s
    hardware = [1.0, 0.5, 0.5]
    load = [math.exp(-1 - 5 / SERVICE_S), math.exp(-0.5), math.exp(-0.5)]  # of two lanes: both, and 5 s to wait; one
    recent = [0.0, math.exp(-fade * 20) + math.exp(-fade * 15), 0.0]  # heat and, as all tasks are alike, likeness
    weights = policy.weights
    locality = weights.model_locality + weights.embedding_locality
    expected = [
        weights.hardware * h + weights.load * x + locality * y for h, x, y in zip(hardware, load, recent, strict=True)
    ]
    np.testing.assert_allclose(
        policy.affinity(policy.init(region.cluster), region.offer(20.0))[0], expected, rtol=LIMIT
    )


@pytest.mark.parametrize(
    ("why", "region", "picked"),
    [
        ("the faster GPU", {"decode_speed": [0.5, 1.0, 0.8]}, 1),
        ("the GPU made for the kind", {"kind_match": [[0.9, 0.9, 1.0]] * 3}, 2),
        ("the one with an idle lane", {"free": [[30, 30, 30], [30, 30, 0]]}, 2),
        ("all busy: the one with the least work ahead", {"free": [30, 10, 20]}, 1),
        ("the one that served tasks like this one", {"prefix": [0, 1, 0]}, 1),
    ],
)
def test_torta_paper_all_else_equal_prefers(why, region, picked):
    policy = patient("torta-paper").replace(weights=EQ_7)  # tuning may leave a weight of zero
    assert Region(3, **region).picks(policy) == [picked], why


def test_torta_paper_returns_to_the_server_that_knows_the_model_until_others_know_it_better():
    region = Region(3).after([0.0], forced=2, model=0).after([0.0, 0.0], forced=[1, 1], model=1)
    policy = patient("torta-paper").replace(weights=EQ_7.replace(embedding_locality=0.0))
    assert region.picks(policy, ready=[33.0], model=0) == [2]
    assert region.picks(policy, ready=[33.0], model=1) == [1]
    region.after([20.0], forced=0, model=0)
    assert region.picks(policy, ready=[33.0], model=0) == [0], "newer counts more"


# Regions

ON_A_LINE, LANES = 4, 4


@partial(jax.jit, static_argnames="count")
def route(policy, load, alive, home, count):
    """The regions of tasks that arrive together, one after the other."""
    cluster = reference_cluster(ON_A_LINE, LANES)
    state = initial_state(cluster, PHYSICS, policy, MODELS, 2)
    matrix = policy.route(state.policy, observe(state, cluster, PHYSICS, alive, jnp.full(ON_A_LINE, 0.1)))[1]
    source, draw = jnp.full(count, home), jnp.linspace(0.0, 0.999, count)
    live, lost = live_matrix(matrix, alive)
    choice = first_choice(live, policy.rule, source, draw, jnp.arange(count))
    every_s = jnp.full(ON_A_LINE, SERVICE_S)
    outstanding = RegionLoad(load * LANES, jnp.full(ON_A_LINE, LANES), every_s)
    mask = jnp.ones(count, bool)
    return overflow(cluster, policy.rule, outstanding, alive, jnp.zeros(count), source, choice, mask, lost)


def regions(name, load, *, home=0, count=1, alive=(True,) * ON_A_LINE, **rule):
    """Where tasks of one home go, on a line of four regions with so much load per lane."""
    policy = schedulers.get(name)
    policy = numbers(policy.replace(rule=policy.rule.replace(**rule)))
    return route(policy, jnp.asarray(load, float), jnp.asarray(alive), jnp.int32(home), count).tolist()


HALF: Any = {"keep_below": 0.5, "room_below": 0.5}


@pytest.mark.parametrize(
    ("why", "home", "load", "picked"),
    [
        ("home has room, though others are empty", 1, [0, 0.25, 0, 0], 1),
        ("home is full: the nearest with room", 3, [0, 0, 0.25, 0.5], 2),
        ("nearer ones are full too", 3, [0, 0, 0.5, 0.5], 1),
        ("the nearest, not the least loaded", 0, [2, 0.25, 0, 0], 1),
        ("all are full: it waits at home, though home has the most to do", 2, [0.5, 0.5, 9, 0.5], 2),
    ],
)
def test_skylb_stays_at_home_while_that_has_room_then_goes_to_the_nearest_with_room(why, home, load, picked):
    assert regions("skylb", load, home=home, **HALF) == [picked], why


def test_skylb_counts_the_tasks_it_has_sent():
    found = regions("skylb", [0, 0.25, 0, 0], count=9, **HALF)
    assert found == [0, 0, 1, 2, 2, 3, 3, 0, 0]  # two per region are half its lanes; then all are full


def test_skylb_leaves_a_dead_home_for_the_nearest_with_room_or_else_the_nearest():
    alive = [False, True, True, True]
    assert regions("skylb", [0, 1, 0, 0], alive=alive, **HALF) == [2]
    assert regions("skylb", [0, 0, 0, 0], count=5, alive=alive, **HALF) == [1, 1, 2, 2, 3]
    assert regions("skylb", [0, 3, 2, 1], count=4, alive=alive, **HALF) == [1, 1, 1, 1]
    last = [True, True, True, False]
    assert regions("skylb", [3, 2, 1, 0], home=3, count=2, alive=last, **HALF) == [2, 2]


def test_sdib_sends_every_task_to_the_least_loaded_region():
    assert regions("sdib", [0.25, 0.75, 0.5, 0.0], home=0) == [3]
    assert regions("sdib", [9, 7, 5, 6], home=0) == [2]
    assert regions("sdib", [0.5, 0.0, 2.0, 0.25], home=2, count=3) == [1, 1, 3]


def test_round_robin_goes_through_the_regions_and_passes_over_full_ones_for_the_least_loaded():
    for home in range(ON_A_LINE):
        assert regions("round-robin", [0, 0, 0, 0], home=home, count=6) == [0, 1, 2, 3, 0, 1]
    assert regions("round-robin", [0.5, 1.0, 0.75, 0.25], count=4) == [0, 3, 2, 3]
    assert regions("round-robin", [2, 2, 2, 2], home=3, count=4) == [0, 1, 2, 3], "all full: in turn all the same"
