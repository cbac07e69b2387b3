"""Forecasts: Eq 12 and the yardsticks by hand, corruption to the accuracy asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torta_jax.errors import InputError
from torta_jax.learn import forecasts

ARRIVALS = jnp.asarray(np.random.default_rng(0).poisson(30, (12, 3)))


def test_the_truth_ahead_is_shifted_by_the_horizon():
    truth = forecasts.ahead(ARRIVALS, 3)
    for t in range(12):
        for h in range(3):
            at = t + 1 + h
            expected = ARRIVALS[at] if at < 12 else np.full(3, np.nan)
            np.testing.assert_array_equal(truth[t, h], expected)


def test_accuracy_is_eq_12_by_hand():
    forecast, actual = jnp.asarray([[[9.0, 4.0]], [[1.0, 7.0]]]), jnp.asarray([[[9.0, 9.0]], [[3.0, jnp.nan]]])
    errors = [0 / 10, 5 / 10, 2 / 4]
    np.testing.assert_allclose(forecasts.accuracy(forecast, actual), [np.exp(-np.mean(errors))], rtol=1e-6)


def test_the_truth_has_accuracy_one_and_nothing_has_less_than_none():
    truth = forecasts.ahead(ARRIVALS, 2)
    np.testing.assert_array_equal(forecasts.accuracy(truth, truth), 1.0)
    assert (forecasts.accuracy(truth * 100, truth) < 1e-20).all()


def test_yardsticks_by_hand():
    last = forecasts.last_value(ARRIVALS, 2)
    seasonal = forecasts.seasonal_naive(ARRIVALS, 6, period=4)
    smooth = forecasts.exponential_smoothing(ARRIVALS, 2, level=0.4, trend=0.2)
    level, slope = np.asarray(ARRIVALS[0], float), np.zeros(3)
    for t in range(12):
        np.testing.assert_array_equal(last[t], np.broadcast_to(ARRIVALS[t], (2, 3)))
        for h in range(6):
            at = t + 1 + h
            while at > t:  # the same time of the last period that is known
                at -= 4
            np.testing.assert_array_equal(seasonal[t, h], ARRIVALS[at if at >= 0 else t])
        new = 0.4 * np.asarray(ARRIVALS[t]) + 0.6 * (level + slope)
        slope, level = 0.2 * (new - level) + 0.8 * slope, new
        np.testing.assert_allclose(smooth[t, 1], np.maximum(level + 2 * slope, 0), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(accuracy=st.floats(0.2, 1.0), kind=st.sampled_from(forecasts.KINDS))
def test_a_corrupted_forecast_has_the_accuracy_asked_for(accuracy, kind):
    actual = jnp.full((200, 1, 500), 1e6)
    try:
        forecast = forecasts.corrupt(jax.random.key(0), actual, accuracy, kind)
    except InputError:
        assert kind == "under"
        assert accuracy <= np.exp(-1)
        return
    assert (forecast >= 0).all()
    assert forecasts.accuracy(forecast, actual)[0] == pytest.approx(accuracy, rel=0.05)
    bias = float((forecast / actual).mean() - 1)
    expected = {"unbiased": 0.0, "over": -np.log(accuracy), "under": np.log(accuracy)}[kind]
    assert bias == pytest.approx(expected, abs=0.1)


def test_an_accuracy_that_cannot_be_is_an_error_that_says_what_can():
    key = jax.random.key(0)
    with pytest.raises(InputError, match=r"accuracy = 0.1: allowed for 'unbiased' are 0.135 \(excluded\) to 1"):
        forecasts.corrupt(key, ARRIVALS, 0.1)
    with pytest.raises(InputError, match=r"allowed for 'under' are 0.368"):
        forecasts.corrupt(key, ARRIVALS, 0.3, "under")
    with pytest.raises(InputError, match="accuracy = nan"):
        forecasts.corrupt(key, ARRIVALS, float("nan"))
    with pytest.raises(InputError, match="did you mean 'unbiased'"):
        forecasts.corrupt(key, ARRIVALS, 0.5, "unbiassed")


def test_the_same_key_gives_the_same_forecast():
    one, other = (forecasts.corrupt(jax.random.key(5), ARRIVALS, 0.5) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, forecasts.corrupt(jax.random.key(6), ARRIVALS, 0.5))
