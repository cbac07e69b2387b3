"""Networks: the paper's perceptron, and one shared by all regions, so that one set of weights serves any number."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

HIDDEN = (256, 512, 256)
"""Hidden layers of the paper's policy and value networks (Section V-B2)."""


PAST = 5
"""K of the paper: slots of utilisation, queue and arrivals that are remembered."""


class Perceptron(nn.Module):
    """Dense layers with ReLU; the last is linear, and `last_scale` times as large as usual at the start."""

    hidden: Sequence[int]
    outputs: int
    last_scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.last_scale))(x)


class ActorCritic(nn.Module):
    """The paper's two networks on a flat observation.

    Returns raw numbers of a head [rows, num_raw] and the value [].
    """

    rows: int
    num_raw: int
    hidden: Sequence[int] = HIDDEN

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw = Perceptron(self.hidden, self.rows * self.num_raw, 0.01, name="policy")(observation)
        value = Perceptron(self.hidden, 1, name="value")(observation)
        return raw.reshape(*raw.shape[:-1], self.rows, self.num_raw), value[..., 0]


class Shared(nn.Module):
    """The same small network for every region, which also sees the mean over all regions.

    Takes features [R, F]; returns [R, outputs]. Any R will do, and no order of regions matters: permuted regions give
    permuted outputs.
    """

    outputs: int
    hidden: Sequence[int]
    last_scale: float = 0.01

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(self.hidden[0], name="enter")(features))
        context = x.mean(axis=-2, keepdims=True)
        x = jnp.concatenate([x, jnp.broadcast_to(context, x.shape)], axis=-1)
        return Perceptron(self.hidden[1:], self.outputs, self.last_scale, name="region")(x)


class Shares(nn.Module):
    """The paper's predictor (Section V-B2): K slots of (U, Q, H), two hidden layers, a softmax over regions.

    Takes [K, R, 3]; returns [R] shares of the next slot's arrivals.
    """

    @nn.compact
    def __call__(self, past: jax.Array) -> jax.Array:
        regions = past.shape[-2]
        x = nn.relu(nn.Dense(512)(past.ravel()))
        return nn.softmax(nn.Dense(regions)(nn.relu(nn.Dense(256)(x))))
