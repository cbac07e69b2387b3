"""Random worlds are of their kind: every number within its range, and all of the range in use."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import cluster as clusters
from torta_jax.learn import pathwise, worlds
from torta_jax.learn.recipes import KINDS
from torta_jax.workload import Synthetic, draws

MANY, REGIONS, SERVERS, SLOTS = 256, 4, 24, 24


@pytest.fixture(scope="module")
def made():
    """A function from a kind's name to `MANY` worlds of it; one program for all kinds."""
    keys = draws.fold_each(jax.random.key(3), jnp.arange(MANY))
    make = lambda key, kind: worlds.random_world(key, kind, REGIONS, SERVERS, SLOTS)  # noqa: E731
    several = jax.jit(jax.vmap(make, (0, None)))
    return cache(lambda name: several(keys, pathwise.floats(KINDS[name])))


def uniform(drawn, ends: tuple[float, float]) -> None:
    """Assert that numbers [MANY] are, as far as their ends and their mean say."""
    (low, high), drawn = ends, np.asarray(drawn)
    assert (drawn >= low - 1e-5).all()
    assert (drawn <= high + 1e-5).all()
    assert abs(drawn.mean() - (low + high) / 2) <= 4 * (high - low) / np.sqrt(12 * MANY) + 1e-5
    assert np.ptp(drawn) >= 0.9 * (high - low)


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_uniform_over_the_range_of_their_kind(made, name):
    kind, found = KINDS[name], made(name)
    uniform(found.workload.load, kind.load)
    uniform(found.workload.noise_sigma, kind.noise_sigma)
    uniform(found.workload.work_low_s / Synthetic.create().work_low_s, kind.work)
    uniform(found.workload.work_high_s / Synthetic.create().work_high_s, kind.work)
    uniform(found.workload.start_hour_utc, (0.0, 24.0))


@pytest.mark.parametrize("name", KINDS)
def test_idling_and_warming_are_dearer_by_a_factor_uniform_over_its_range(made, name):
    found, usual = made(name).cluster, clusters.build("abilene")
    usual_w = {int(gpu): np.asarray(usual.warming_w)[usual.gpu == gpu][0] for gpu in np.unique(usual.gpu)}
    gpu, warming_w = np.asarray(found.gpu)[:, 0, 0], np.asarray(found.warming_w)[:, 0, 0]
    known = np.isin(gpu, list(usual_w))
    assert known.mean() > 0.9
    factor = warming_w[known] / np.array([usual_w[one] for one in gpu[known]])
    low, high = KINDS[name].idle
    assert factor.min() >= low - 1e-4
    assert factor.max() <= high + 1e-4
    assert np.ptp(factor) >= 0.9 * (high - low)
    assert (np.asarray(found.idle_w) <= np.asarray(found.active_w)).all()


@pytest.mark.parametrize("name", KINDS)
def test_regions_have_as_many_servers_as_their_size_allows(made, name):
    most = np.asarray(made(name).cluster.server_mask.sum(axis=-1)).max(axis=1)
    low, high = KINDS[name].size
    assert most.max() == SERVERS * high
    assert most.min() >= SERVERS * low / 2
    assert most.min() < SERVERS * (low + high) / 4  # some fleets are small


@pytest.mark.parametrize("name", KINDS)
def test_regions_are_alike_in_some_worlds_and_very_different_in_others(made, name):
    share = np.asarray(made(name).cluster.demand_share)
    apart = share.max(axis=1) / share.min(axis=1)
    assert (apart < 1.5).mean() > 0.2
    assert (apart > 3).mean() > 0.1


@pytest.mark.parametrize("name", KINDS)
def test_surges_and_prices_only_rise_and_by_no_more_than_two_of_them_at_once(made, name):
    kind, scenario = KINDS[name], made(name).scenario
    for most, drawn in ((kind.max_surge, scenario.rate_factor), (kind.max_price, scenario.price_factor)):
        drawn = np.asarray(drawn)
        assert drawn.min() == 1.0
        assert drawn.max() <= most**2 + 1e-5
        assert drawn.max() > 0.9 * most


@pytest.mark.parametrize("name", KINDS)
def test_nothing_fails(made, name):
    assert np.asarray(made(name).scenario.alive).all()


def test_every_other_light_world_has_gpus_that_suit_all_kinds_of_tasks_alike(made):
    alike = np.ptp(np.asarray(made("light").cluster.kind_match), axis=1).max(axis=(1, 2)) < 1e-6
    assert 0.4 < alike.mean() < 0.6
    assert not (np.ptp(np.asarray(made("calm").cluster.kind_match), axis=1).max(axis=(1, 2)) < 1e-6).any()
