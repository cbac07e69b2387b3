"""A seed's result has the same bits in any batch, on any number of devices, in any order of policies."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts.same_bits import digests
from tests.references.worlds import FLEETS, SHARED, Fleets, fleets, named_policies, play, recorded
from torta_jax import schedulers
from torta_jax.sim import sums
from torta_jax.sim.account import OUTCOMES

pytestmark = pytest.mark.filterwarnings("ignore::torta_jax.evaluate.rollout.Shortage")
SEEDS = tuple(range(64))
SLOT_NAMES = ("torta", "skylb")


@pytest.fixture(scope="module")
def of_64():
    return digests("online", SEEDS)


@pytest.mark.parametrize("seeds", [SEEDS[:1], SEEDS[:7], (63, 5, 17)], ids=["1", "7", "3 others"])
def test_a_seed_gives_the_same_bits_in_a_batch_of_any_size(of_64, seeds):
    found = digests("online", seeds)
    assert found == {name: [rows[seed] for seed in seeds] for name, rows in of_64.items()}


def test_seeds_differ(of_64):
    assert all(len(set(rows)) == len(rows) for rows in of_64.values())


def test_batches_agree_when_the_slot_is_known_at_its_start():
    alone, many = digests("slot", SEEDS[:1], SLOT_NAMES), digests("slot", SEEDS[:7], SLOT_NAMES)
    assert alone == {name: rows[:1] for name, rows in many.items()}


def test_the_order_of_policies_changes_nothing(of_64):
    found = digests("online", SEEDS, schedulers.NAMES[::-1])
    assert list(found) == list(of_64)[::-1]
    assert found == of_64


def test_many_devices_give_the_bits_of_one(of_64):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env.pop("JAX_NUM_CPU_DEVICES", None)  # the command line sets it, and JAX takes only one of the two
    seeds = [*SEEDS[:19]]  # not a multiple of the devices
    command = [sys.executable, "-m", "tests.contracts.same_bits", "online", *map(str, seeds)]
    out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    found = json.loads(out)
    assert found["devices"] == 8
    assert found["digests"] == {name: rows[:19] for name, rows in of_64.items()}


def test_a_row_of_a_batch_does_not_depend_on_the_others():
    one, other = (worlds(seed) for seed in (1, 2))
    other = jax.tree.map(lambda a, b: b.at[0].set(a[0]), one, other)
    one, other = (play(each, named_policies(FLEETS)) for each in (one, other))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), one, other)
    arrived, others = one[1].metrics.arrived, other[1].metrics.arrived
    assert (arrived[1:] != others[1:]).any(axis=1).all()


LOAD = 0.05  # little enough for the padding of most worlds
WIDER = {
    "task rows": ({"max_tasks": 160}, 0),
    "carried tasks": ({"carry_tasks": 400}, 0),
    "tasks per region": ({"region_tasks": 40_000}, 0),
    "servers": ({}, 3),
}


def worlds(seed, information="online") -> Fleets:
    keys = jax.random.split(jax.random.key(seed), FLEETS)
    made = fleets(keys, SHARED._replace(information=information))
    workload = made.workload.replace(load=jnp.full_like(made.workload.load, LOAD))
    return recorded(made._replace(workload=workload), keys)


def padded(fleet: Fleets, *, max_tasks=SHARED.max_tasks, servers=0, **room) -> Fleets:
    """The same worlds with more rows for tasks, more servers that do not exist, and other room in the physics."""
    cluster, workload, scenario, physics = fleet
    tasks, more = workload.tasks, max_tasks - SHARED.max_tasks

    def pad(name, x):
        """Rows without a task hold numbers like the last one's, which nobody may add up."""
        rows = [(0, 0), (0, 0), (0, more)] + [(0, 0)] * (x.ndim - 3)
        return jnp.pad(x, rows) if name == "mask" else jnp.pad(x, rows, mode="edge")

    wide = {name: pad(name, x) for name, x in vars(tasks).items() if name != "overflow"}
    workload = workload.replace(tasks=tasks.replace(**wide))
    return Fleets(with_more_servers(cluster, servers), workload, scenario, physics.replace(**room))


def with_more_servers(cluster, more):
    """The clusters with padded servers, filled as `equip` fills them."""
    ones = ("prefill_speed", "decode_speed", "kind_match")
    zeros = ("gpu", "lane_mask", "memory_gb", "warmup_s", "switch_s", "migrate_out_s", "migrate_in_s")
    zeros += ("idle_w", "active_w", "warming_w")

    def pad(name):
        x = getattr(cluster, name)
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=1 if name in ones else 0)

    return cluster.replace(**{name: pad(name) for name in (*ones, *zeros)})


def of_tasks(record, fleet):
    """Of every task of a fleet its outcome, place and times, in order of arrival."""
    held = record.outcome[fleet] < len(OUTCOMES)
    found = {name: getattr(record.pool, name)[fleet][held] for name in ("region", "server", "start_s", "finish_s")}
    return found | {"outcome": record.outcome[fleet][held]}


def check_padding(information, changes, more_servers):
    tight, policies = worlds(7, information), named_policies(FLEETS)
    wide = padded(tight, servers=more_servers, **changes)
    played = [jax.tree.map(np.asarray, play(each, policies)) for each in (tight, wide)]
    (totals, story), (wide_totals, wide_story) = played
    short = story.metrics.dropped[..., 1].any(axis=1) | story.metrics.unmatched.any(axis=1)
    enough = np.flatnonzero(~short)
    assert len(enough) > FLEETS / 2, "the smaller padding is too small for this comparison"
    assert story.metrics.completed[enough].sum() > 10 * len(enough)
    at = lambda tree: jax.tree.map(lambda x: x[enough], tree)  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, at(totals), at(wide_totals))
    for fleet in enough:
        jax.tree.map(np.testing.assert_array_equal, of_tasks(story.record, fleet), of_tasks(wide_story.record, fleet))
    for name, values in vars(at(story.metrics)).items():
        # Sums over tasks in other rows may round differently.
        np.testing.assert_allclose(values, getattr(at(wide_story.metrics), name), rtol=1e-5, atol=1e-5, err_msg=name)


def test_padding_changes_no_task():
    check_padding("online", {"max_tasks": 160, "carry_tasks": 400, "region_tasks": 300}, more_servers=3)


@pytest.mark.slow  # one minute
@pytest.mark.parametrize("information", ["online", "slot"])
@pytest.mark.parametrize("axis", WIDER)
def test_padding_of_each_axis_changes_no_task(axis, information):
    check_padding(information, *WIDER[axis])


@pytest.mark.parametrize("size", [0, 1, 2, 31, 360])
def test_sums_by_halves_are_sums(size):
    values = np.random.default_rng(size).integers(-50, 50, (3, size, 4)).astype(np.float32)
    np.testing.assert_array_equal(sums.total(jnp.asarray(values), axis=1), values.sum(axis=1))
    np.testing.assert_array_equal(sums.total_of_all(jnp.asarray(values)), values.sum())
