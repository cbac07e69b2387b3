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
from tests.references.worlds import Size, named_policies, random_world, run_world
from torta_jax import schedulers
from torta_jax.sim import sums
from torta_jax.sim.account import OUTCOMES
from torta_jax.sim.simulate import simulate

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
    size = Size(regions=3, servers=3, lanes=1, slots=8, max_tasks=64, carry_tasks=64, region_tasks=32)
    count = len(schedulers.NAMES)
    keys, policies = jax.random.split(jax.random.key(1), count), named_policies(count)
    run = jax.jit(jax.vmap(lambda key, policy: run_world(key, policy, size)))
    one = run(keys, policies)
    other = run(keys.at[1:].set(jax.random.split(jax.random.key(2), count)[1:]), policies)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), one, other)
    assert (one[1].arrived[1:] != other[1].arrived[1:]).any()


SMALL = Size(regions=3, servers=3, lanes=2, slots=10, max_tasks=128, carry_tasks=256, region_tasks=256)
WIDER = {
    "task rows": ({"max_tasks": 160}, 0),
    "carried tasks": ({"carry_tasks": 400}, 0),
    "tasks per region": ({"region_tasks": 40_000}, 0),
    "servers": ({}, 3),
}


def padded_run(size, more_servers=0):
    """Metrics, totals, and of every task its outcome, place and times, in order of arrival."""

    def run(key, policy):
        cluster, workload, scenario, physics = random_world(key, SMALL._replace(information=size.information))
        workload = workload.replace(max_tasks=size.max_tasks, load=0.4 * workload.load)
        physics = physics.replace(carry_tasks=size.carry_tasks, region_tasks=size.region_tasks)
        cluster = with_more_servers(cluster, more_servers)
        keep = lambda record: (record.outcome, record.pool)  # noqa: E731
        return simulate(cluster, workload, policy, key, scenario=scenario, physics=physics, keep=keep)

    count = len(schedulers.NAMES)
    keys = jax.random.split(jax.random.key(7), count)
    run, (metrics, (outcome, pool)) = jax.jit(jax.vmap(run))(keys, named_policies(count))
    held = np.asarray(outcome) < len(OUTCOMES)
    tasks = {name: np.asarray(getattr(pool, name))[held] for name in ("region", "server", "start_s", "finish_s")}
    return metrics, run.totals, {"outcome": np.asarray(outcome)[held], **tasks}


def with_more_servers(cluster, more):
    """The cluster with padded servers, filled as `equip` fills them."""
    ones = ("prefill_speed", "decode_speed", "kind_match")
    zeros = ("gpu", "lane_mask", "memory_gb", "warmup_s", "switch_s", "migrate_out_s", "migrate_in_s")
    zeros += ("idle_w", "active_w", "warming_w")

    def pad(name):
        x = getattr(cluster, name)
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=1 if name in ones else 0)

    return cluster.replace(**{name: pad(name) for name in (*ones, *zeros)})


def check_padding(information, changes, more_servers):
    size = SMALL._replace(information=information)
    metrics, totals, tasks = padded_run(size)
    assert metrics.dropped[..., 1].sum() == 0, "the smaller padding is too small for this comparison"
    wide_metrics, wide_totals, wide_tasks = padded_run(size._replace(**changes), more_servers)
    jax.tree.map(np.testing.assert_array_equal, totals, wide_totals)
    for name, values in tasks.items():
        np.testing.assert_array_equal(values, wide_tasks[name], err_msg=name)
    for name in metrics.__dataclass_fields__:
        a, b = np.asarray(getattr(metrics, name)), np.asarray(getattr(wide_metrics, name))
        if np.issubdtype(a.dtype, np.integer):
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:  # a sum over tasks in other rows may round differently
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


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
