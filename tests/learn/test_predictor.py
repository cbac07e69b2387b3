"""Predictors: windows by hand, and what can be foretold is."""

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.learn import forecasts, predictor

REGIONS = 3


def wave(slots: int, episodes: int, seed: int = 0):
    """[B, T, R] Poisson counts around waves with a period of 20 slots, each region and episode in its own phase."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (episodes, 1, REGIONS))
    rate = 400 * (1 + 0.6 * np.sin(2 * np.pi / 20 * np.arange(slots)[:, None] + phase))
    return jnp.asarray(rng.poisson(rate), float)


def test_windows_are_the_last_slots_newest_first_and_the_next():
    counts = jnp.arange(2 * 12 * REGIONS, dtype=float).reshape(2, 12, REGIONS)
    found = predictor.windows(counts + 0.1, counts + 0.2, counts, horizon=2)
    per_episode = 12 - predictor.PAST + 1 - 2
    assert found.past.shape == (2 * per_episode, predictor.PAST, REGIONS, 3)
    for n in range(2 * per_episode):
        episode, end = n // per_episode, predictor.PAST - 1 + n % per_episode
        for k in range(predictor.PAST):
            np.testing.assert_allclose(found.past[n, k, :, 2], counts[episode, end - k])
            np.testing.assert_allclose(found.past[n, k, :, 0], counts[episode, end - k] + 0.1)
        np.testing.assert_array_equal(found.future[n], counts[episode, end + 1 : end + 3])


def test_counts_that_can_be_foretold_are_foretold_better_than_by_every_yardstick():
    training, judged = wave(60, 64), wave(60, 16, seed=1)
    episodes = predictor.windows(training, training, training)
    network = predictor.Counts()
    parameters, losses = predictor.fit(predictor.counts_loss, network, episodes, jax.random.key(0), steps=800)
    assert losses[-50:].mean() < losses[:50].mean()
    held_out = predictor.windows(judged, judged, judged)
    accuracy = forecasts.accuracy(predictor.forecast(network, parameters, held_out.past), held_out.future)
    first = predictor.PAST - 1
    for name, yardstick in {
        "last value": lambda x: forecasts.last_value(x, predictor.HORIZON),
        "smoothing": lambda x: forecasts.exponential_smoothing(x, predictor.HORIZON, 0.6, 0.4),
    }.items():
        given = jnp.stack([yardstick(one)[first : 60 - predictor.HORIZON] for one in judged])
        assert (accuracy > forecasts.accuracy(given.reshape(-1, *given.shape[2:]), held_out.future)).all(), name
    assert (accuracy > 0.8).all()


def test_the_papers_predictor_learns_shares_that_sum_to_one():
    training = wave(60, 32)
    scaled = training / 1000
    episodes = predictor.windows(scaled, scaled, scaled)
    network = predictor.Shares()
    parameters, losses = predictor.fit(predictor.shares_loss, network, episodes, jax.random.key(0), steps=600)
    shares = predictor.outputs(network, parameters, episodes.past)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    wanted = episodes.future[:, 0] / episodes.future[:, 0].sum(axis=-1, keepdims=True)
    last = episodes.past[:, 0, :, 2] / episodes.past[:, 0, :, 2].sum(axis=-1, keepdims=True)
    assert ((shares - wanted) ** 2).mean() < ((last - wanted) ** 2).mean()
    assert losses[-50:].mean() < losses[:50].mean()


def test_shares_become_counts_by_the_newest_total():
    counts = wave(20, 2)
    episodes = predictor.windows(counts, counts, counts)
    network = predictor.Shares()
    parameters = network.init(jax.random.key(0), episodes.past[0])
    given = predictor.forecast(network, parameters, episodes.past)
    np.testing.assert_allclose(given[:, 0].sum(axis=-1), episodes.past[:, 0, :, 2].sum(axis=-1), rtol=1e-4)
