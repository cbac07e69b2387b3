"""Predictors: windows by hand, and what can be foretold is."""

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax import schedulers, workload
from torta_jax.cluster import random_cluster
from torta_jax.learn import forecasts, predictor, routing
from torta_jax.schedulers import heads
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.networks import PAST
from torta_jax.types import numbers

REGIONS = 3


def wave(slots: int, episodes: int, seed: int = 0):
    """[B, T, R] Poisson counts around waves with a period of 20 slots, each region and episode in its own phase."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (episodes, 1, REGIONS))
    rate = 400 * (1 + 0.6 * np.sin(2 * np.pi / 20 * np.arange(slots)[:, None] + phase))
    return jnp.asarray(rng.poisson(rate), float)


def with_past(episodes):
    """The same with arrivals in place of utilisation and queues."""
    return episodes._replace(past=jnp.stack([episodes.arrivals] * 3, axis=-1))


def test_windows_are_the_last_slots_newest_first_and_the_next():
    counts = jnp.arange(2 * 12 * REGIONS, dtype=float).reshape(2, 12, REGIONS)
    found = predictor.windows(counts, horizon=2)
    per_episode = 12 - PAST + 1 - 2
    assert found.arrivals.shape == (2 * per_episode, PAST, REGIONS)
    for n in range(2 * per_episode):
        episode, end = n // per_episode, PAST - 1 + n % per_episode
        for k in range(PAST):
            np.testing.assert_array_equal(found.arrivals[n, k], counts[episode, end - k])
        np.testing.assert_array_equal(found.future[n], counts[episode, end + 1 : end + 3])


def test_a_record_is_what_the_policy_remembers_and_what_then_arrives():
    cluster = random_cluster(jax.random.key(0), REGIONS, 4)
    policy = Actor(**vars(schedulers.get("torta-paper")), head=heads.Gate())
    params = routing.Params(cluster, workload.Synthetic.create(), workload.calm(40, REGIONS), policy, length=12)
    found = jax.jit(lambda key: predictor.record(key, numbers(params), episodes=2))(jax.random.key(1))
    rows = 12 - predictor.HORIZON - PAST + 1
    assert found.past is not None
    assert found.past.shape == (2 * rows, PAST, REGIONS, 3)
    for n in range(rows - 1):  # one slot later everything has moved by one
        np.testing.assert_array_equal(found.arrivals[n + 1, 0], found.future[n, 0])
        np.testing.assert_array_equal(found.arrivals[n + 1, 1:], found.arrivals[n, :-1])
        np.testing.assert_array_equal(found.past[n + 1, 1:], found.past[n, :-1])
    newest, some = found.past[:, 0, :, 2], found.arrivals[:, 0] > 1
    capacity = np.where(some, found.arrivals[:, 0] / newest, np.nan)  # which hardly moves
    np.testing.assert_allclose(
        capacity[some], np.broadcast_to(np.nanmean(capacity, axis=0), some.shape)[some], rtol=0.2
    )


def test_counts_that_can_be_foretold_are_foretold_better_than_by_every_yardstick():
    training, judged = wave(60, 64), wave(60, 16, seed=1)
    episodes = predictor.windows(training)
    network = predictor.Counts()
    parameters, losses = predictor.fit(predictor.counts_loss, network, episodes, jax.random.key(0), steps=800)
    assert losses[-50:].mean() < losses[:50].mean()
    held_out = predictor.windows(judged)
    accuracy = forecasts.accuracy(predictor.forecast(network, parameters, held_out), held_out.future)
    first = PAST - 1
    for name, yardstick in {
        "last value": lambda x: forecasts.last_value(x, predictor.HORIZON),
        "smoothing": lambda x: forecasts.exponential_smoothing(x, predictor.HORIZON, 0.6, 0.4),
    }.items():
        given = jnp.stack([yardstick(one)[first : 60 - predictor.HORIZON] for one in judged])
        assert (accuracy > forecasts.accuracy(given.reshape(-1, *given.shape[2:]), held_out.future)).all(), name
    assert (accuracy > 0.8).all()


def test_the_papers_predictor_learns_shares_that_sum_to_one():
    episodes, judged = (with_past(predictor.windows(wave(60, *of) / 1000)) for of in ((32, 0), (16, 1)))
    network = predictor.Shares()
    parameters, losses = predictor.fit(predictor.shares_loss, network, episodes, jax.random.key(0), steps=600)
    shares = predictor.outputs(network, parameters, judged)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    wanted = judged.future[:, 0] / judged.future[:, 0].sum(axis=-1, keepdims=True)
    last = judged.arrivals[:, 0] / judged.arrivals[:, 0].sum(axis=-1, keepdims=True)
    assert ((shares - wanted) ** 2).mean() < ((last - wanted) ** 2).mean()
    assert losses[-50:].mean() < losses[:50].mean()


def test_shares_become_counts_by_the_newest_total():
    counts = wave(20, 2)
    episodes = with_past(predictor.windows(counts))
    network = predictor.Shares()
    parameters = network.init(jax.random.key(0), episodes.past[0])
    given = predictor.forecast(network, parameters, episodes)
    np.testing.assert_allclose(given[:, 0].sum(axis=-1), episodes.arrivals[:, 0].sum(axis=-1), rtol=1e-4)
