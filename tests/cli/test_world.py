"""Options become the world they name."""

from pathlib import Path

import numpy as np
import pytest

from torta_jax import cluster
from torta_jax.cli import world
from torta_jax.cli.options import Compare


def built(**options) -> world.World:
    return world.build(Compare(policies=("skylb",), seeds=1, slots=2, **options))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_tokens,output_tokens\n0,10,5\n50,20,7\n")
    return str(path)


def test_a_trace_is_replayed_at_the_catalogues_speeds_and_synthetic_work_at_the_calibrated(trace):
    recorded = cluster.build("abilene", speed_spread=1.0, mismatch=1.0)
    calibrated = cluster.build("abilene")
    for name in ("decode_speed", "prefill_speed", "kind_match"):
        np.testing.assert_array_equal(getattr(built(trace=trace).cluster, name), getattr(recorded, name))
        np.testing.assert_array_equal(getattr(built().cluster, name), getattr(calibrated, name))
        assert (np.asarray(getattr(recorded, name)) != np.asarray(getattr(calibrated, name))).any()


def test_the_fleet_seed_places_the_same_gpus_elsewhere():
    first, second, third = (built(fleet_seed=seed) for seed in (0, 0, 1))
    gpus = [np.where(one.cluster.server_mask, one.cluster.gpu, -1) for one in (first, second, third)]
    np.testing.assert_array_equal(gpus[0], gpus[1])
    assert (gpus[0] != gpus[2]).any()
    np.testing.assert_array_equal(np.sort(gpus[0][gpus[0] >= 0]), np.sort(gpus[2][gpus[2] >= 0]))
    assert third.facts["fleet_seed"] == 1
