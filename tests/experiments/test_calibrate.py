"""The calibrated world is one that `experiments.calibrate` can have found, and its loss measures what it says."""

from dataclasses import asdict, replace

import jax
import pytest

from experiments.calibrate import BOX, GIVEN, TARGETS, TOLERANCE, loss, things
from torta_jax.calibration import CALIBRATED


def test_every_number_of_the_frozen_world_is_the_given_one_or_inside_its_range():
    world = asdict(CALIBRATED)
    assert sorted([*GIVEN, *BOX]) == sorted(world)
    assert {name: world[name] for name in GIVEN} == GIVEN
    assert all(low <= world[name] <= high for name, (low, high) in BOX.items())


def test_every_number_of_a_world_reaches_the_cluster_or_the_workload():
    base = CALIBRATED
    for name, value in asdict(base).items():
        changed = things(replace(base, **{name: value * 0.9}))
        leaves = zip(jax.tree.leaves(changed), jax.tree.leaves(things(base)), strict=True)
        assert any((a != b).any() for a, b in leaves), name


@pytest.mark.parametrize(("name", "metric"), [("skylb", "wait_s"), ("sdib", "inference_s")])
def test_the_loss_is_zero_on_target_and_the_mean_of_squared_errors_in_tolerances_off_it(name, metric):
    measured = {name: {"wait_s": wait, "inference_s": inference} for name, (wait, inference) in TARGETS.items()}
    assert loss(measured) == 0
    tolerance = dict(zip(("wait_s", "inference_s"), TOLERANCE, strict=True))[metric]
    for factor in (1 + tolerance, 1 / (1 + tolerance)):
        off = measured | {name: measured[name] | {metric: measured[name][metric] * factor**3}}
        assert loss(off) == pytest.approx(9 / (2 * len(TARGETS)))


def test_a_fleet_in_which_nothing_queues_is_no_near_miss():
    idle = {name: {"wait_s": 0.0, "inference_s": inference} for name, (_, inference) in TARGETS.items()}
    twice = {name: {"wait_s": 2 * wait, "inference_s": inference} for name, (wait, inference) in TARGETS.items()}
    assert 20 * loss(twice) < loss(idle) < float("inf")
