"""Electricity prices: sources, means, seeds."""

import numpy as np
import pytest

from torta_jax import cluster
from torta_jax.cluster.catalogue import HOURLY_PROFILES
from torta_jax.errors import InputError


def test_abilene_pays_the_eia_prices_of_its_states():
    topology = cluster.load("abilene")
    price = dict(zip(topology.nodes, cluster.price_usd_per_kwh(topology, "flat"), strict=True))
    assert (price["LOSAng"] == 0.2391).all()
    assert (price["HSTNng"] == 0.0882).all()
    assert (price["NYCMng"] == 0.1801).all()


@pytest.mark.parametrize("name", ["abilene", "polska", "cost2"])
def test_every_region_of_a_network_on_earth_has_a_price(name):
    assert np.isfinite(cluster.load(name).usd_per_kwh).all()


@pytest.mark.parametrize(
    ("name", "mode"), [("abilene", "flat"), ("cost2", "flat"), ("polska", "spread"), ("gabriel", "spread")]
)
def test_auto_takes_known_prices_where_they_differ_and_a_spread_elsewhere(name, mode):
    topology = cluster.load(name)
    assert cluster.resolve_prices(topology, "auto") == mode
    np.testing.assert_array_equal(
        cluster.price_usd_per_kwh(topology, seed=3), cluster.price_usd_per_kwh(topology, mode, seed=3)
    )


@pytest.mark.parametrize("name", ["abilene", "cost2"])
def test_an_hourly_price_keeps_the_mean_of_its_region(name):
    topology = cluster.load(name)
    price = cluster.price_usd_per_kwh(topology, "hourly")
    assert price.shape == (topology.num_regions, 24)
    assert (price > 0).all()
    assert np.ptp(price, axis=1).max() > 0.05
    np.testing.assert_allclose(price.mean(axis=1), topology.usd_per_kwh, rtol=1e-4)


def test_markets_peak_in_their_evening_and_californias_trough_is_at_noon():
    """Guards the correction of the American profiles, which were published hours late."""
    standard_time = {"CAISO": -8, "PJM": -5, "NYISO": -5, "ERCOT": -6}
    for market, shape in HOURLY_PROFILES.items():
        assert shape.mean() == pytest.approx(1, abs=1e-4)
        local_peak = (shape.argmax() + standard_time.get(market, 1)) % 24
        assert 16 <= local_peak <= 21, market
    assert 10 <= (HOURLY_PROFILES["CAISO"].argmin() - 8) % 24 <= 14


def test_a_spread_differs_by_region_keeps_the_mean_and_follows_its_seed():
    topology = cluster.load("polska")
    price = cluster.price_usd_per_kwh(topology, "spread", seed=1)
    assert len(set(price[:, 0])) == 12
    assert price[:, 0].mean() == pytest.approx(0.241)
    assert (price == price[:, :1]).all()
    np.testing.assert_array_equal(price, cluster.price_usd_per_kwh(topology, "spread", seed=1))
    assert not np.array_equal(price, cluster.price_usd_per_kwh(topology, "spread", seed=2))


def test_a_price_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="did you mean 'hourly'"):
        cluster.price_usd_per_kwh(cluster.load("abilene"), "hourli")
    with pytest.raises(InputError, match=r"no price for region 'R0'.*'spread'"):
        cluster.price_usd_per_kwh(cluster.load("gabriel"), "flat")
    with pytest.raises(InputError, match="no region of topology 'polska' lies in a market"):
        cluster.price_usd_per_kwh(cluster.load("polska"), "hourly")
    for seed in (-1, 0.5, True, None):
        with pytest.raises(InputError, match="whole number"):
            cluster.price_usd_per_kwh(cluster.load("gabriel"), "spread", seed=seed)  # pyright: ignore
