"""Histograms of times."""

import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax.sim.metrics import BIN_EDGES_S, NUM_BINS, bin_of, quantile


def test_a_time_is_in_the_bin_whose_edges_hold_it():
    times = np.concatenate([np.random.default_rng(0).gamma(0.5, 60, 20_000), [0.0, 1e-6, 8190.0, 8192.0, 1e6]])
    times = times.astype(np.float32)
    found = np.asarray(bin_of(jnp.asarray(times)))
    expected = np.searchsorted(BIN_EDGES_S, times, side="right") - 1
    rounded = np.searchsorted(BIN_EDGES_S + 1, (1 + times).astype(np.float32), side="right") - 1
    np.testing.assert_array_equal(found, rounded)
    assert (found != expected).mean() < 1e-3  # within a rounding of an edge
    assert found[-5] == 0
    assert (found[-2:] == NUM_BINS - 1).all()


def test_every_edge_opens_its_own_bin_and_what_is_below_zero_falls_in_the_first():
    np.testing.assert_array_equal(bin_of(jnp.asarray(BIN_EDGES_S[:-1])), np.arange(NUM_BINS))
    assert bin_of(jnp.asarray(-1e-6)) == 0


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99])
def test_quantile_is_within_a_bin_of_the_sample_quantile(q):
    sample = np.random.default_rng(1).gamma(2, 10, (3, 5000))
    counts = np.stack([np.histogram(row, BIN_EDGES_S)[0] for row in sample])
    expected = np.quantile(sample, q, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(quantile(counts, q), expected, rtol=0.02, atol=0.03)


def test_quantile_of_nothing_is_nan_and_of_the_open_bin_its_edge():
    counts = np.zeros((2, NUM_BINS), int)
    counts[1, -1] = 5
    assert np.isnan(quantile(counts, 0.5)[0])
    assert quantile(counts, 0.5)[1] == BIN_EDGES_S[-2]
