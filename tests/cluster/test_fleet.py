"""Fleets after Table I and the facts of their GPUs."""

import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import cluster
from torta_jax.cluster.catalogue import FOLDER
from torta_jax.errors import InputError
from torta_jax.types import KINDS

MIDPOINTS = {"A100": 50, "H100": 30, "RTX4090": 50, "V100": 70, "T4": 50}


def by_type(gpu, mask):
    counts = np.bincount(gpu[mask], minlength=len(cluster.GPUS))
    return {fact.name: int(count) for fact, count in zip(cluster.GPUS, counts, strict=True)}


def test_a_fleet_in_total_has_the_midpoints_of_table_1_spread_evenly():
    gpu, mask = cluster.place_servers(12, seed=3)
    assert by_type(gpu, mask) == MIDPOINTS
    assert np.ptp(mask.sum(axis=1)) <= 1


def test_a_fleet_per_region_has_them_in_each():
    gpu, mask = cluster.place_servers(3, scope="per-region")
    for region in range(3):
        assert by_type(gpu[region], mask[region]) == MIDPOINTS


@pytest.mark.parametrize("seed", range(5))
def test_drawn_fleets_stay_in_the_ranges_of_table_1_and_differ_by_region(seed):
    gpu, mask = cluster.place_servers(6, scope="per-region", counts="draw", seed=seed)
    regions = [by_type(*pair) for pair in zip(gpu, mask, strict=True)]
    assert all(fact.count[0] <= region[fact.name] <= fact.count[1] for region in regions for fact in cluster.GPUS)
    assert any(region != regions[0] for region in regions)


def test_the_seed_moves_servers_and_nothing_else():
    (a, mask_a), (b, mask_b), (again, _) = (cluster.place_servers(12, seed=seed) for seed in (1, 2, 1))
    assert by_type(a, mask_a) == by_type(b, mask_b)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, again)


def test_padding_to_a_common_width_changes_no_server():
    gpu, mask = cluster.place_servers(12)
    wide, wide_mask = cluster.place_servers(12, max_servers=40)
    assert wide.shape == (12, 40)
    np.testing.assert_array_equal(wide[wide_mask], gpu[mask])
    np.testing.assert_array_equal(wide_mask[:, : mask.shape[1]], mask)
    assert (wide[~wide_mask] == 0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"counts": {"A10": 5}}, "did you mean 'A100'"),
        ({"counts": {"A100": -1}}, "from 0"),
        ({"counts": {"A100": 2.5}}, "whole number"),
        ({"counts": {"A100": float("nan")}}, "whole number"),
        ({"counts": {"A100": 11}}, "every region needs"),
        ({"counts": {}}, "every region needs"),
        ({"counts": "mid"}, "did you mean 'midpoint'"),
        ({"scope": "per region"}, "did you mean 'per-region'"),
        ({"max_servers": 20}, "from 21"),
        ({"max_servers": 30.5}, "from 21"),
        ({"seed": -1}, "whole number"),
    ],
)
def test_an_impossible_fleet_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        cluster.place_servers(12, **options)


def test_the_catalogue_holds_the_papers_stages():
    facts = {fact.name: fact for fact in cluster.GPUS}
    assert facts["V100"].switch_s == pytest.approx(30.0)
    assert facts["V100"].migrate_out_s == 15.5
    assert facts["V100"].migrate_in_s == pytest.approx(5.8 + 6.2 + 5.8)
    assert facts["H100"].switch_s == pytest.approx(30 * (10.8 + 4.1 + 3.2 + 3.1) / 33.3)
    for fact in cluster.GPUS:
        assert fact.kind in KINDS
        assert 60 <= fact.warmup_s <= 180
        assert 0 < fact.idle_w < fact.warming_w < fact.active_w


def one_of_each(**options):
    gpu = jnp.arange(5)[None]
    return cluster.equip(gpu, jnp.ones((1, 5), bool), **options)


def test_speed_spread_goes_from_equal_speeds_to_the_catalogues():
    catalogued = np.array([[fact.decode_speed for fact in cluster.GPUS]], np.float32)
    np.testing.assert_allclose(one_of_each(speed_spread=1.0)["decode_speed"], catalogued, rtol=1e-6)
    np.testing.assert_allclose(one_of_each(speed_spread=0.5)["decode_speed"], catalogued**0.5, rtol=1e-6)
    assert (one_of_each(speed_spread=0.0)["decode_speed"] == 1).all()
    assert (one_of_each(speed_spread=0.0)["prefill_speed"] == 1).all()


def test_a_board_that_warms_up_stands_where_fig_3c_puts_it_between_idle_and_its_limit():
    facts = tomllib.loads((FOLDER / "gpus.toml").read_text())
    for board in (facts[gpu.name] for gpu in cluster.GPUS):
        expected = board["idle_w"] + (100 - 68) / (250 - 68) * (board["active_w"] - board["idle_w"])
        assert board["warming_w"] == pytest.approx(expected, rel=0.02)


def test_a_server_draws_the_watts_of_its_board_and_its_share_of_the_machine():
    v100 = [gpu.name for gpu in cluster.GPUS].index("V100")
    fields = one_of_each()
    assert fields["idle_w"][0, v100] == 68 + 137 / 2
    assert fields["warming_w"][0, v100] == 100 + 137 / 2
    assert fields["active_w"][0, v100] == 250 + 137


def test_the_numbers_of_calibration_may_be_swept_by_vmap():
    speeds = jax.vmap(lambda spread: one_of_each(speed_spread=spread)["decode_speed"])(jnp.array([0.0, 1.0]))
    assert (speeds[0] == 1).all()
    assert len(set(speeds[1].ravel().tolist())) == 5


def test_a_task_of_another_kind_is_slower_by_the_mismatch():
    match = np.asarray(one_of_each(mismatch=0.75)["kind_match"])[:, 0]
    meant_for = ["compute", "compute", "light", "memory", "light"]
    expected = [[1.0 if kind == other else 0.75 for other in meant_for] for kind in KINDS]
    np.testing.assert_array_equal(match, expected)


def test_switch_factor_scales_switching_alone():
    full, third = one_of_each(), one_of_each(switch_factor=0.25)
    for name, values in full.items():
        factor = 0.25 if name == "switch_s" else 1
        np.testing.assert_array_equal(third[name], values * factor if factor != 1 else values)


def test_padding_has_no_lane_no_power_no_delay_and_divides_by_nothing():
    mask = jnp.array([[True, False]])
    fields = cluster.equip(jnp.zeros((1, 2), jnp.int32), mask, lanes=3)
    assert fields["lane_mask"].shape == (1, 3, 2)
    np.testing.assert_array_equal(fields["lane_mask"].any(axis=1), mask)
    for name in ("idle_w", "active_w", "warming_w", "warmup_s", "switch_s", "migrate_in_s", "memory_gb"):
        assert fields[name][0, 1] == 0
        assert fields[name][0, 0] > 0
    for name in ("prefill_speed", "decode_speed", "kind_match"):
        assert (fields[name][..., 1] == 1).all()
