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

from torta_jax.learn import routing
from torta_jax.learn.forecasts import ahead
from torta_jax.schedulers.networks import PAST, Shares
from torta_jax.sim import fluid
from torta_jax.workload import draws

HORIZON = 4
"""Slots that the longest cold start takes."""

DECAY = 1e-4
"""Weight of ||θ||² in the paper's loss."""


class Counts(nn.Module):
    """Counts up to the longest cold start, from each region's own past and that of all: any number of regions.

    Takes arrivals [K, R], newest first; returns [H, R] factors on their mean.
    """

    horizon: int = HORIZON

    @nn.compact
    def __call__(self, arrivals: jax.Array) -> jax.Array:
        level = jnp.maximum(arrivals.mean(axis=0), 1e-3)
        whole = arrivals.sum(axis=-1)
        own = jnp.log((arrivals + 1e-3) / level)
        fleet = jnp.log((whole + 1e-3) / jnp.maximum(whole.mean(), 1e-3))
        both = jnp.concatenate([own, jnp.broadcast_to(fleet[:, None], own.shape)]).T
        x = nn.relu(nn.Dense(64)(both))
        x = nn.relu(nn.Dense(64)(x))
        return jnp.exp(nn.Dense(self.horizon, kernel_init=nn.initializers.zeros)(x)).T


class Episodes(NamedTuple):
    """What predictors learn from; the newest slot is the first."""

    arrivals: jax.Array  # [N, K, R] of the last slots
    future: jax.Array  # [N, H, R] arrivals of the next slots
    past: Any = None  # [N, K, R, 3] (U, Q, H) of the last slots as `Actor` remembers them


def windows(arrivals, horizon: int = HORIZON) -> Episodes:
    """Every stretch of K + H slots of some series of arrivals [B, T, R]."""
    seen = jnp.asarray(arrivals, float)
    ends = jnp.arange(PAST - 1, seen.shape[1] - horizon)
    past = seen[:, ends[:, None] - jnp.arange(PAST)]
    future = jax.vmap(lambda one: ahead(one, horizon))(seen)[:, ends]
    return Episodes(*(x.reshape(-1, *x.shape[2:]) for x in (past, future)))


def record(key: jax.Array, params: routing.Params, episodes: int = 64, horizon: int = HORIZON) -> Episodes:
    """What the paper's policy sees and what then arrives, in episodes of the fluid model under the plan alone."""
    policy = routing.by_plan(params.policy)

    def one(key):
        _, state = routing.Routing().reset(key, params)

        def step(flows, _):
            flows, _ = fluid.run_slot(state.world, params.physics, policy, flows)
            return flows, (flows.policy.past, flows.arrivals)

        return lax.scan(step, state.flows, None, params.length)[1]

    past, arrivals = jax.vmap(one)(draws.fold_each(key, jnp.arange(episodes)))
    begins = jnp.arange(PAST, params.length - horizon + 1)
    parts = (
        arrivals[:, begins[:, None] - 1 - jnp.arange(PAST)],
        arrivals[:, begins[:, None] + jnp.arange(horizon)],
        past[:, begins],
    )
    return Episodes(*(x.reshape(-1, *x.shape[2:]) for x in parts))


def outputs(network: Counts | Shares, parameters: Any, episodes: Episodes) -> jax.Array:
    """[N, ...] what a network gives."""
    apply: Any = network.apply
    seen = episodes.past if isinstance(network, Shares) else episodes.arrivals
    return jax.vmap(lambda one: apply(parameters, one))(seen)


def shares_loss(network: Shares, parameters: Any, episodes: Episodes) -> jax.Array:
    """The paper's: mean squared error of the shares, and 1e-4·||θ||²."""
    wanted = episodes.future[:, 0]
    wanted = wanted / jnp.maximum(wanted.sum(axis=-1, keepdims=True), 1e-6)
    given = outputs(network, parameters, episodes)
    norm = optax.tree.norm(parameters, squared=True)
    return ((given - wanted) ** 2).sum(axis=-1).mean() + DECAY * norm


def counts_loss(network: Counts, parameters: Any, episodes: Episodes) -> jax.Array:
    """Poisson deviance over the mean of the past: right in the mean, and errors weigh by what is normal."""
    level = jnp.maximum(episodes.arrivals.mean(axis=1), 1e-3)[:, None]
    factor = outputs(network, parameters, episodes)
    return (factor - episodes.future / level * jnp.log(factor)).mean()


def fit(loss, network, episodes: Episodes, key: jax.Array, *, steps: int = 2000, batch: int = 256, rate: float = 1e-3):
    """Parameters after `steps` steps of Adam with a cosine decay, and the losses [steps].

    Args:
        loss: `shares_loss` or `counts_loss`.
    """
    seen = episodes.past if isinstance(network, Shares) else episodes.arrivals
    parameters = network.init(jax.random.fold_in(key, 0), seen[0])
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, t):
        parameters, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, 1 + t), (batch,), 0, episodes.future.shape[0])
        some = jax.tree.map(lambda x: x[rows], episodes)
        value, slope = jax.value_and_grad(lambda p: loss(network, p, some))(parameters)
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(parameters, change), state), value

    (parameters, _), losses = lax.scan(step, (parameters, optimiser.init(parameters)), jnp.arange(steps))
    return parameters, losses


def forecast(network: Counts | Shares, parameters: Any, episodes: Episodes) -> jax.Array:
    """[N, H, R] counts; shares become counts by the total of the newest slot, H is then 1."""
    given = outputs(network, parameters, episodes)
    if isinstance(network, Shares):
        return given[:, None] * episodes.arrivals[:, 0].sum(axis=-1)[:, None, None]
    return given * episodes.arrivals.mean(axis=1)[:, None]
