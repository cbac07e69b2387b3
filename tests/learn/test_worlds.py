"""Random worlds are of their kind: every number within its range, and all of the range in use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax.learn import pathwise, worlds
from torta_jax.learn.recipes import KINDS
from torta_jax.workload import Synthetic

MANY, REGIONS, SERVERS, SLOTS = 256, 4, 6, 24


def made(kind: worlds.Range):
    """`MANY` worlds of a kind."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(MANY))
    make = lambda key: worlds.random_world(key, pathwise.floats(kind), REGIONS, SERVERS, SLOTS)  # noqa: E731
    return jax.jit(jax.vmap(make))(keys)


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_uniform_over_the_range_of_their_kind(name):
    kind, found = KINDS[name], made(KINDS[name])
    work = found.workload.work_low_s / Synthetic.create().work_low_s
    for (low, high), drawn in (
        (kind.load, found.workload.load),
        (kind.noise_sigma, found.workload.noise_sigma),
        (kind.work, work),
        ((0.0, 24.0), found.workload.start_hour_utc),
    ):
        drawn, width = np.asarray(drawn), high - low
        assert (drawn >= low - 1e-5).all()
        assert (drawn <= high + 1e-5).all()
        assert abs(drawn.mean() - (low + high) / 2) <= 4 * width / np.sqrt(12 * MANY) + 1e-5
        assert np.ptp(drawn) >= 0.9 * width


@pytest.mark.parametrize("name", KINDS)
def test_surges_and_prices_only_rise_and_by_no_more_than_two_of_them_at_once(name):
    kind, scenario = KINDS[name], made(KINDS[name]).scenario
    for most, drawn in ((kind.max_surge, scenario.rate_factor), (kind.max_price, scenario.price_factor)):
        drawn = np.asarray(drawn)
        assert drawn.min() == 1.0
        assert drawn.max() <= most**2 + 1e-5
        assert drawn.max() > 0.9 * most


@pytest.mark.parametrize("name", KINDS)
def test_nothing_fails(name):
    assert np.asarray(made(KINDS[name]).scenario.alive).all()


def test_every_other_light_world_has_gpus_that_suit_all_kinds_of_tasks_alike():
    alike = np.ptp(np.asarray(made(worlds.LIGHT).cluster.kind_match), axis=1).max(axis=(1, 2)) < 1e-6
    assert 0.4 < alike.mean() < 0.6
    assert not (np.ptp(np.asarray(made(worlds.CALM).cluster.kind_match), axis=1).max(axis=(1, 2)) < 1e-6).any()
