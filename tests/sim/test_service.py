"""What a server offers a task, and what taking it changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from torta_jax.schedulers.rules import Rules
from torta_jax.sim.affinity import Weights
from torta_jax.sim.service import UNDECIDED, Batch, Fleet, begin, choose, gap, offers, serve
from torta_jax.sim.state import RESIDENT_S, Physics, initial_state

MODEL_GB = (30.0, 30.0, 30.0)  # two of them fit


def tasks(ready, model, *, started=False, embedding=None, forced: int | list = UNDECIDED, decode: float | list = 10.0):
    """Tasks of 2 s prefill and 10 s decode for one region."""
    rows, column = len(ready), lambda x, kind: jnp.broadcast_to(jnp.asarray(x, kind).reshape(-1, 1), (len(ready), 1))
    embedding = np.zeros((rows, 2)) if embedding is None else embedding
    return Batch(
        mask=column(True, bool),
        arrival_s=column(ready, float),
        ready_s=column(ready, float),
        deadline_s=column(900.0, float),
        kind=column(0, jnp.int32),
        model=column(model, jnp.int32),
        prefill_s=column(2.0, float),
        decode_s=column(decode, float),
        embedding=jnp.asarray(embedding, float)[:, None],
        started=column(started, bool),
        forced=column(forced, jnp.int32),
    )


def run(ready, model, *, cluster=None, servers=None, **more):
    """Serve `tasks` on one region's servers; returns servers and commitments."""
    cluster = reference_cluster(1, 1).replace(switch_s=jnp.full((1, 1), 20.0)) if cluster is None else cluster
    physics = Physics(carry_tasks=1, prefix_gain=0.5)
    if servers is None:
        servers = initial_state(cluster, physics, Rules(), len(MODEL_GB), 2).servers
    fleet = Fleet(cluster, jnp.asarray(MODEL_GB), physics, jnp.ones(1))
    policy = Rules(weights=Weights(wait=1.0, service=1.0), max_wait_s=90.0)
    batch, count = tasks(ready, model, **more), jnp.array([len(ready)])
    servers, _, done = serve(fleet, policy, policy.init(cluster), *begin(servers, physics.slot_s), batch, count)
    return servers, {
        name: np.asarray(getattr(done, name))[:, 0] for name in ("server", "start_s", "finish_s", "loading_s")
    }


def resident(servers, server=0):
    return np.flatnonzero(np.asarray(servers.used_s)[0, :, server] > RESIDENT_S).tolist()


def test_a_lane_serves_in_order_and_pays_a_switch_only_where_the_model_is_not_in_memory():
    _, done = run(ready=[1.0, 2.0, 50.0], model=[0, 0, 1])
    np.testing.assert_allclose(done["loading_s"], [20, 0, 20])
    np.testing.assert_allclose(done["start_s"], [1, 33, 50])
    np.testing.assert_allclose(done["finish_s"], [33, 45, 82])


def test_the_least_recently_used_model_leaves_a_full_memory():
    servers, done = run(ready=[0.0, 1.0, 2.0, 3.0, 4.0], model=[0, 1, 0, 2, 1], decode=1.0)
    assert resident(servers) == [1, 2]
    np.testing.assert_allclose(done["loading_s"], [20, 20, 0, 20, 20])


@pytest.mark.parametrize("ready", [[0.0, 0.0, 0.0], [30.0, 20.0, 10.0]], ids=["equal", "falling"])
def test_the_model_just_loaded_stays_in_memory_whenever_the_others_were_ready(ready):
    servers, done = run(ready=[*ready, 31.0], model=[0, 1, 2, 2])
    assert len(resident(servers)) == 2
    assert done["loading_s"][-1] == 0


def test_a_prefix_hit_shortens_the_prefill_by_its_cosine():
    east, slant = [1.0, 0.0], [0.6, 0.8]
    _, done = run(ready=[0.0, 0.0, 0.0], model=[0, 0, 0], embedding=np.array([east, east, slant]))
    lane_s = done["finish_s"] - done["start_s"]
    np.testing.assert_allclose(lane_s, [20 + 12, 10 + 2 * 0.5, 10 + 2 * (1 - 0.5 * 0.6)], rtol=1e-6)


def test_utilisation_and_queue_move_with_every_assignment():
    cluster, physics = reference_cluster(1, 1, lanes=2), Physics(carry_tasks=1)
    servers = initial_state(cluster, physics, Rules(), len(MODEL_GB), 2).servers
    fleet = Fleet(cluster, jnp.asarray(MODEL_GB), physics, jnp.full(1, 6.0))
    seen = []
    for ready in ([], [0.0], [0.0, 0.0]):
        after = run(ready, [0] * len(ready), cluster=cluster, servers=servers)[0] if ready else servers
        offer = offers(fleet, after, jax.tree.map(lambda x: x[0], tasks(ready=[9.0], model=[0])))
        seen.append((float(offer.utilisation[0, 0]), float(offer.queue[0, 0])))
    assert seen == [(0.0, 0.0), (0.5, 0.0), (1.0, 0.5)]  # both lanes are busy until second 12: 3 s of 6 s tasks


def test_a_server_is_idle_since_its_last_lane_fell_idle_and_it_was_warm():
    cluster, physics = reference_cluster(1, 1, lanes=2), Physics(carry_tasks=1)
    servers = initial_state(cluster, physics, Rules(), len(MODEL_GB), 2).servers
    fleet, task = Fleet(cluster, jnp.asarray(MODEL_GB), physics, jnp.ones(1)), tasks(ready=[9.0], model=[0])
    for free, warm, idle_s in (((-60, 3), -90, 6), ((-5, -9), -90, 14), ((-60, 12), -90, 0), ((-60, -60), 7, 2)):
        now = servers.replace(free_s=jnp.array(free, float).reshape(1, 2, 1), warm_s=jnp.full((1, 1), float(warm)))
        assert offers(fleet, now, jax.tree.map(lambda x: x[0], task)).idle_s[0, 0] == idle_s


def test_a_moved_task_pays_the_stages_of_its_arrival():
    cluster = reference_cluster(1, 1).replace(migrate_in_s=jnp.full((1, 1), 7.0))
    _, done = run(ready=[0.0], model=[0], cluster=cluster, started=True)
    np.testing.assert_allclose([done["loading_s"][0], done["finish_s"][0]], [7, 19])


def test_speed_and_match_divide_the_work():
    cluster = reference_cluster(1, 1).replace(
        prefill_speed=jnp.full((1, 1), 2.0), decode_speed=jnp.full((1, 1), 0.5), kind_match=jnp.full((3, 1, 1), 0.8)
    )
    _, done = run(ready=[0.0], model=[0], cluster=cluster)
    assert done["finish_s"][0] == pytest.approx((2 / 2 + 10 / 0.5) / 0.8)


def test_the_task_takes_the_lane_that_is_free_first():
    _, done = run(ready=[0.0, 0.0, 0.0], model=[0, 0, 0], cluster=reference_cluster(1, 1, lanes=2), decode=[10, 4, 1])
    np.testing.assert_allclose(done["start_s"], [0, 0, 6])


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("off", {"active": jnp.array([[False]])}),
        ("not warm when the task is ready", {"warm_s": jnp.array([[5.5]])}),
        ("queue too long", {"free_s": jnp.full((1, 1, 1), 96.0)}),
    ],
)
def test_a_task_without_a_usable_server_stays(case, change):
    cluster = reference_cluster(1, 1)
    servers = initial_state(cluster, Physics(carry_tasks=1), Rules(), len(MODEL_GB), 2).servers
    assert run(ready=[5.0], model=[0], cluster=cluster, servers=servers)[1]["server"] == 0
    assert run(ready=[5.0], model=[0], cluster=cluster, servers=servers.replace(**change))[1]["server"] == -1, case


def test_a_model_larger_than_the_memory_is_never_loaded():
    cluster = reference_cluster(1, 1).replace(memory_gb=jnp.full((1, 1), 29.0))
    assert run(ready=[5.0], model=[0], cluster=cluster)[1]["server"] == -1


def test_a_server_named_in_advance_is_taken():
    _, done = run(ready=[0.0, 0.0, 0.0], model=[0, 0, 0], cluster=reference_cluster(1, 3), forced=[2, -1, 2])
    np.testing.assert_array_equal(done["server"], [2, -1, 2])


def test_choose_takes_the_first_of_the_best_that_are_allowed():
    score = jnp.array([[3.0, 5.0, 5.0], [9.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
    allowed = jnp.array([[True, True, True], [False, True, True], [False, False, False]])
    np.testing.assert_array_equal(choose(score, allowed), [1, 1, -1])


@pytest.mark.parametrize(
    ("free", "start", "inside", "beyond"),
    [(-5.0, 3.0, 3, 0), (10.0, 12.5, 2.5, 0), (10.0, 10.0, 0, 0), (40.0, 60.0, 5, 15), (50.0, 60.0, 0, 10)],
)
def test_idle_time_before_a_task_is_split_at_the_end_of_the_slot(free, start, inside, beyond):
    assert gap(jnp.asarray(free), jnp.asarray(start), 45.0) == (inside, beyond)
