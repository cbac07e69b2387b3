"""A built cluster is whole, and every option reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import cluster
from torta_jax.errors import InputError


@pytest.mark.parametrize("name", [*cluster.names(), "sndlib/germany50"])
def test_every_named_network_builds_a_valid_cluster(name, check_cluster):
    c = cluster.build(name, lanes=2)
    check_cluster(c, cluster.load(name).num_regions, c.gpu.shape[-1], 2)
    assert int(c.server_mask.sum()) == 250


def test_double_precision_is_kept_where_it_is_enabled():
    with jax.enable_x64(True):
        c = cluster.build("abilene")
        assert c.latency_s.dtype == c.decode_speed.dtype == c.price_usd_per_kwh.dtype == jnp.float64
        np.testing.assert_array_equal(c.latency_s, cluster.latency_s(cluster.load("abilene")))


def test_every_option_reaches_the_cluster():
    plain = cluster.build("abilene")
    hourly = cluster.build("abilene", prices="hourly").price_usd_per_kwh
    assert not np.array_equal(plain.price_usd_per_kwh, hourly)
    assert float(cluster.build("abilene", latency="paper").latency_s[0, 1]) == pytest.approx(0.025)
    random = cluster.build("abilene", demand="random", seed=2).demand_share
    assert len(set(random.tolist())) == 12
    assert int(cluster.build("abilene", scope="per-region").server_mask.sum()) == 12 * 250
    assert cluster.build("abilene", max_servers=32).gpu.shape == (12, 32)
    assert cluster.build("abilene", counts={"T4": 24}).server_mask.sum() == 24


def test_a_topology_object_is_as_good_as_its_name():
    a, b = cluster.build("polska", seed=4), cluster.build(cluster.load("polska"), seed=4)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    "options",
    [
        {"topology": "nowhere"},
        {"speed_spread": float("nan")},
        {"speed_spread": -0.1},
        {"mismatch": 0.0},
        {"mismatch": 1.01},
        {"mismatch": "0.5"},
        {"switch_factor": -1.0},
        {"switch_factor": float("inf")},
        {"lanes": 0},
        {"lanes": 1.5},
        {"prices": "cheap"},
        {"latency": "none"},
        {"demand": "all"},
        {"scope": "world"},
        {"seed": -3},
    ],
)
def test_an_impossible_option_is_refused_by_name(options):
    with pytest.raises(InputError) as caught:
        cluster.build(**options)
    (name, value) = next(iter(options.items()))
    assert name.removesuffix("s").split("_")[0] in str(caught.value)
    assert repr(value) in str(caught.value)
