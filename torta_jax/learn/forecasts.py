"""Forecasts of arrivals judged and spoiled: Eq 12, the classical yardsticks, corruption to any accuracy.

T slots, R regions, H slots ahead. Row t of a forecast [T, H, R] is made when slots up to t are known; its column h is
for slot t + 1 + h. So it is judged against `ahead(arrivals, H)`, whose last H rows have no truth and are NaN.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from scipy.special import ndtri

from torta_jax.errors import require, unknown

LEAST = 1.0
"""ε of Eq 12, in tasks."""


def ahead(arrivals: jax.Array, horizon: int) -> jax.Array:
    """[T, H, R] what really arrived, from [T, R]; NaN beyond the end."""
    padded = jnp.pad(jnp.asarray(arrivals, float), ((0, horizon), (0, 0)), constant_values=jnp.nan)
    rows = jnp.arange(arrivals.shape[0])[:, None] + 1 + jnp.arange(horizon)
    return padded[rows]


def accuracy(forecast: jax.Array, actual: jax.Array) -> jax.Array:
    """[H] prediction accuracy by horizon, in (0, 1], of Eq 12: exp of minus the mean relative error.

    Args:
        forecast, actual: [T, H, R]; where there is no truth nothing is judged.
    """
    error = jnp.abs(forecast - actual) / (actual + LEAST)
    return jnp.exp(-jnp.nanmean(error, axis=(0, 2)))


def last_value(arrivals: jax.Array, horizon: int) -> jax.Array:
    """What arrived last, for every slot ahead."""
    return jnp.broadcast_to(arrivals[:, None], (arrivals.shape[0], horizon, arrivals.shape[1])).astype(float)


def seasonal_naive(arrivals: jax.Array, horizon: int, period: int) -> jax.Array:
    """What arrived `period` slots before the slot that is forecast; the last value in the first period."""
    slots = jnp.arange(arrivals.shape[0])[:, None]
    source = slots + 1 + jnp.arange(horizon) - period * (1 + jnp.arange(horizon) // period)
    return jnp.asarray(arrivals, float)[jnp.where(source >= 0, source, slots)]


def exponential_smoothing(arrivals: jax.Array, horizon: int, level: float = 0.3, trend: float = 0.0) -> jax.Array:
    """Holt's linear method, from the first count."""

    def step(state, seen):
        mean, slope = state
        new = level * seen + (1 - level) * (mean + slope)
        slope = trend * (new - mean) + (1 - trend) * slope
        return (new, slope), jnp.maximum(new + jnp.arange(1, horizon + 1)[:, None] * slope, 0.0)

    first = jnp.asarray(arrivals[0], float)
    return lax.scan(step, (first, jnp.zeros_like(first)), jnp.asarray(arrivals, float))[1]


KINDS = ("unbiased", "over", "under")
"""How a forecast may be spoiled."""


def corrupt(key: jax.Array, actual: jax.Array, accuracy: float, kind: str = "unbiased") -> jax.Array:
    """A forecast of the accuracy asked for (Eq 12 with ε = 0, in expectation), from the truth.

    `unbiased`: the truth times log-normal numbers of mean one. `over`, `under`: the truth times one number.

    Args:
        actual: [...], any shape; every entry gets a number of its own.
        accuracy: in (0, 1].

    Raises:
        InputError: an accuracy that the kind cannot have. No forecast that is never negative and right in the mean is
            worse than exp(-2), no forecast that is too low worse than exp(-1).
    """
    if kind not in KINDS:
        raise unknown("kind of corruption", kind, KINDS)
    worst = {"unbiased": math.exp(-2), "over": 0.0, "under": math.exp(-1)}[kind]
    require(worst < accuracy <= 1, f"accuracy = {accuracy}: allowed for {kind!r} are {worst:.3f} (excluded) to 1")
    error = -math.log(accuracy)
    if kind == "over":
        return actual * (1 + error)
    if kind == "under":
        return actual * (1 - error)
    sigma = spread(error)
    return actual * jnp.exp(sigma * jax.random.normal(key, jnp.shape(actual)) - sigma**2 / 2)


def spread(error: float) -> float:
    """σ of a log-normal number of mean one whose mean distance from one is `error`, in [0, 2).

    The mean distance is 2·(2Φ(σ/2) − 1).
    """
    return 2 * float(ndtri((1 + error / 2) / 2))
