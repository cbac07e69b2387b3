"""Predictors of arrivals: the paper's perceptron, which gives shares, and one with a horizon, which gives counts.

T slots, R regions, K slots of the past, H slots ahead. Both are trained offline on recorded episodes and judged by
`forecasts.accuracy`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from torta_jax.learn.forecasts import ahead

PAST = 5
"""K of the paper."""

HORIZON = 4
"""Slots that the longest cold start takes."""

DECAY = 1e-4
"""Weight of ||θ||² in the paper's loss."""


class Shares(nn.Module):
    """The paper's predictor (Section V-B2): K slots of (U, Q, H), two hidden layers, a softmax over regions.

    Takes [K, R, 3]; returns [R] shares of the next slot's arrivals.
    """

    @nn.compact
    def __call__(self, past: jax.Array) -> jax.Array:
        regions = past.shape[-2]
        x = nn.relu(nn.Dense(512)(past.ravel()))
        return nn.softmax(nn.Dense(regions)(nn.relu(nn.Dense(256)(x))))


class Counts(nn.Module):
    """Counts up to the longest cold start, from each region's own past and that of all: any number of regions.

    Takes [K, R, 3], newest first, arrivals last; returns [H, R] factors on the mean of the past.
    """

    horizon: int = HORIZON

    @nn.compact
    def __call__(self, past: jax.Array) -> jax.Array:
        arrivals = past[..., 2]
        level = jnp.maximum(arrivals.mean(axis=0), 1e-3)
        whole = arrivals.sum(axis=-1)
        own = jnp.log((arrivals + 1e-3) / level)
        fleet = jnp.log((whole + 1e-3) / jnp.maximum(whole.mean(), 1e-3))
        both = jnp.concatenate([own, jnp.broadcast_to(fleet[:, None], own.shape)]).T
        x = nn.relu(nn.Dense(64)(both))
        x = nn.relu(nn.Dense(64)(x))
        return jnp.exp(nn.Dense(self.horizon, kernel_init=nn.initializers.zeros)(x)).T


class Episodes(NamedTuple):
    """What predictors learn from."""

    past: jax.Array  # [N, K, R, 3] utilisation, waiting and arrivals of the last slots, the newest first
    future: jax.Array  # [N, H, R] arrivals of the next slots


def windows(utilisation, waiting, arrivals, horizon: int = HORIZON) -> Episodes:
    """Every stretch of K + H slots of some episodes; [B, T, R] each.

    Utilisation and queues are those that a policy sees; arrivals are counts.
    """
    seen = jnp.stack([utilisation, waiting, arrivals], axis=-1).astype(float)
    slots = seen.shape[1]
    ends = jnp.arange(PAST - 1, slots - horizon)
    rows = ends[:, None] - jnp.arange(PAST)
    future = jax.vmap(lambda one: ahead(one, horizon))(jnp.asarray(arrivals, float))[:, ends]
    past = seen[:, rows]
    return Episodes(*(x.reshape(-1, *x.shape[2:]) for x in (past, future)))


def outputs(network: nn.Module, parameters: Any, past: jax.Array) -> jax.Array:
    """[N, ...] what a network gives for each of [N, K, R, 3]."""
    apply: Any = network.apply
    return jax.vmap(lambda one: apply(parameters, one))(past)


def shares_loss(network: Shares, parameters: Any, episodes: Episodes) -> jax.Array:
    """The paper's: mean squared error of the shares, and 1e-4·||θ||²."""
    wanted = episodes.future[:, 0]
    wanted = wanted / jnp.maximum(wanted.sum(axis=-1, keepdims=True), 1e-6)
    given = outputs(network, parameters, episodes.past)
    norm = optax.tree.norm(parameters, squared=True)
    return ((given - wanted) ** 2).sum(axis=-1).mean() + DECAY * norm


def counts_loss(network: Counts, parameters: Any, episodes: Episodes) -> jax.Array:
    """Poisson deviance over the mean of the past: right in the mean, and errors weigh by what is normal."""
    level = jnp.maximum(episodes.past[..., 2].mean(axis=1), 1e-3)[:, None]
    factor = outputs(network, parameters, episodes.past)
    return (factor - episodes.future / level * jnp.log(factor)).mean()


def fit(loss, network, episodes: Episodes, key: jax.Array, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3):
    """Parameters after `steps` steps of Adam with a cosine decay, and the losses [steps].

    Args:
        loss: `shares_loss` or `counts_loss`.
    """
    parameters = network.init(jax.random.fold_in(key, 0), episodes.past[0])
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, t):
        parameters, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, 1 + t), (batch,), 0, episodes.past.shape[0])
        some = jax.tree.map(lambda x: x[rows], episodes)
        value, slope = jax.value_and_grad(lambda p: loss(network, p, some))(parameters)
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(parameters, change), state), value

    (parameters, _), losses = lax.scan(step, (parameters, optimiser.init(parameters)), jnp.arange(steps))
    return parameters, losses


def forecast(network: Counts | Shares, parameters: Any, past: jax.Array) -> jax.Array:
    """[N, H, R] counts from [N, K, R, 3]; shares become counts by the total of the newest slot, H is then 1."""
    given = outputs(network, parameters, past)
    arrivals = past[..., 2]
    if isinstance(network, Shares):
        return given[:, None] * arrivals[:, 0].sum(axis=-1)[:, None, None]
    return given * arrivals.mean(axis=1)[:, None]
