"""What the network sees: finite, limited, told apart, and how wrong forecasts have been."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.references.observations import REGIONS, outlook, see
from torta_jax.schedulers.features import (
    KEEP_MEAN,
    KEEP_SQUARE,
    LIMIT,
    NUM_FEATURES,
    Surprise,
    features,
    of_demand,
    of_place,
)

look = jax.jit(lambda expected, surprise, seen: features(expected, outlook(expected), surprise, seen))
counts = st.floats(0, 1e6, width=32)
every = st.tuples(counts, counts, counts)


@settings(deadline=None)
@given(expected=every, arrivals=every, price=st.tuples(*[st.floats(0, 100, width=32)] * 3), excess=every)
def test_features_are_finite_and_limited(expected, arrivals, price, excess):
    surprise = Surprise(jnp.zeros(REGIONS), jnp.asarray(excess) - 1)
    seen = np.asarray(look(jnp.asarray(expected), surprise, see(arrivals=arrivals, price=price)))
    assert seen.shape == (REGIONS, NUM_FEATURES)
    assert (np.abs(seen) <= LIMIT).all()


def test_no_feature_is_the_same_whatever_is_observed():
    """Each tells regions, or worlds, apart."""
    one = see(arrivals=(9.0, 2.0, 6.0)).replace(
        waiting=jnp.array([1.0, 2.0, 0.0]),
        outstanding=jnp.array([3.0, 2.0, 1.0]),
        utilisation=jnp.array([0.2, 0.9, 0.5]),
        servers_on=jnp.array([1.0, 2.0, 4.0]),
        service_s=jnp.array([10.0, 15.0, 20.0]),
        matrix=jnp.eye(REGIONS),
        alive=jnp.array([True, True, False]),
    )
    cluster = one.cluster.replace(
        idle_w=one.cluster.idle_w * 1.5,
        active_w=one.cluster.active_w * 3,
        warmup_s=one.cluster.warmup_s + 30,
        latency_s=one.cluster.latency_s * jnp.array([[1.0, 1.0, 3.0], [1.0, 1.0, 2.0], [3.0, 2.0, 1.0]]),
    )
    busy = jnp.broadcast_to(jnp.array([0.1, 0.5, 0.9])[:, None], (REGIONS, 4))
    other = features(
        jnp.array([8.0, 3.0, 6.0]),
        outlook(jnp.array([8.0, 3.0, 5.0]), 1.0).replace(busy=busy),
        Surprise(jnp.array([0.1, -0.1, 0.0]), jnp.array([0.3, 0.1, 0.0])),
        one.replace(cluster=cluster, price_usd_per_kwh=jnp.array([0.1, 0.4, 0.2])),
    )
    plain = features(jnp.full(REGIONS, 4.0), outlook(4.0), Surprise.none(REGIONS), see(price=(0.1, 0.1, 0.1)))
    assert (np.abs(np.asarray(other) - np.asarray(plain)).max(axis=0) > 1e-3).all()


def test_what_a_region_sees_of_others_is_of_the_right_ones():
    """Three regions by hand: prices 1, 4 and 2 of which the mean is 7/3, a matrix that is not symmetric."""
    seen = see(price=(1.0, 4.0, 2.0))
    share = np.asarray(seen.capacity() / seen.capacity().sum())
    matrix = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    latency = np.array([[0.0, 1.0, 5.0], [2.0, 0.0, 3.0], [4.0, 6.0, 0.0]])
    expected = np.array([8.0, 4.0, 12.0])
    cluster = seen.cluster.replace(latency_s=jnp.asarray(latency))
    seen = seen.replace(cluster=cluster, matrix=jnp.asarray(matrix))
    *_, come, _ = of_demand(jnp.asarray(expected), outlook(expected), Surprise.none(REGIONS), seen)
    ratio, logarithm, spread, cheaper, room, _, apart, far, stays = of_place(jnp.asarray(expected), seen)
    capacity = np.asarray(seen.capacity())
    np.testing.assert_allclose(come * capacity, [8 / 2 + 12 / 4, 8 / 2 + 4 + 12 / 4, 12 / 2], rtol=1e-6)
    np.testing.assert_allclose(ratio, [3 / 7 - 1, 12 / 7 - 1, 6 / 7 - 1], rtol=1e-6)
    np.testing.assert_allclose(logarithm, np.log([3 / 7, 12 / 7, 6 / 7]), rtol=1e-6)
    np.testing.assert_allclose(spread, np.sqrt((16 + 25 + 1) / 49 / 3), rtol=1e-6)
    np.testing.assert_allclose(cheaper, [0, share[0] + share[2], share[0]], rtol=1e-6)
    np.testing.assert_allclose(room, np.asarray(cheaper) - 24 / capacity.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(apart) * 21 / 9, [1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(far) * 21 / 9, [2, 5 / 3, 10 / 3], rtol=1e-6)
    np.testing.assert_array_equal(stays, [0.5, 1.0, 0.5])


def test_surprise_is_a_moving_average_of_what_was_not_foretold():
    foretold, arrivals, capacity = 6.0, np.array([4.0, 8.0, 6.0]), 12.0
    surprise = Surprise.none(REGIONS).take_in(outlook(5.0, 1.0), see(arrivals=tuple(arrivals)))
    missed = arrivals - foretold
    np.testing.assert_allclose(surprise.mean, (1 - KEEP_MEAN) * missed / capacity, rtol=1e-6)
    excess = (missed**2 - foretold) / foretold**2
    np.testing.assert_allclose(surprise.excess, KEEP_SQUARE * 0.05 + (1 - KEEP_SQUARE) * excess, rtol=1e-5)


def test_with_the_true_rate_foretold_the_excess_of_counts_is_the_variance_of_their_rates():
    random = np.random.default_rng(0)
    rate = 60.0
    for sigma in (0.0, 0.3):
        surprise, found = Surprise.none(REGIONS), []
        rates = rate * np.exp(sigma * random.normal(size=(2000, REGIONS)) - sigma**2 / 2)
        take_in = jax.jit(lambda surprise, arrivals: surprise.take_in(outlook(rate), see(arrivals=arrivals)))
        for arrivals in random.poisson(rates):
            surprise = take_in(surprise, jnp.asarray(arrivals, float))
            found.append(np.asarray(surprise.excess))
        assert np.mean(found[100:]) == pytest.approx(np.expm1(sigma**2), abs=0.01)


def test_the_first_count_is_no_surprise():
    for slot in (0, 1):
        surprise = Surprise.none(REGIONS).take_in(outlook(0.0), see(slot=slot, arrivals=(50.0, 50.0, 50.0)))
        np.testing.assert_array_equal(surprise.mean, 0.0)
        np.testing.assert_allclose(surprise.excess, Surprise.none(REGIONS).excess)


def test_a_region_that_was_down_and_a_burst_leave_no_lasting_surprise():
    down, none = (True, False, True), Surprise.none(REGIONS)
    surprise = none.take_in(outlook(6.0), see(alive=down, arrivals=(6.0, 9.0, 6.0)))
    np.testing.assert_array_equal(surprise.mean, 0.0)
    assert surprise.excess[1] == none.excess[1]
    surprise = none.take_in(outlook(0.2), see(arrivals=(400.0, 0.2, 0.2)))
    assert surprise.mean[0] == pytest.approx(1 - KEEP_MEAN)
    assert surprise.excess[0] <= 0.05 + (1 - KEEP_SQUARE)


def test_slopes_of_features_are_finite_where_nothing_was_missed():
    def total(level):
        return features(level, outlook(level), Surprise(jnp.zeros(REGIONS), -jnp.ones(REGIONS)), see()).sum()

    assert np.isfinite(jax.grad(total)(jnp.full(REGIONS, 4.0))).all()
