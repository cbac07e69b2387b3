"""Random routing matrices from a network's numbers: five families behind one interface.

What is drawn is a *latent*, row by row; a function without luck makes the matrix of it. Densities and entropies are
those of the latent, exact, and one per row: the rows are independent given the network's numbers, and a likelihood
ratio of all R² entries at once would be cut off by PPO's clip nearly always.

R regions; K numbers per row come from the network ("raw"); D numbers per row are the latent.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma, gammaln

from torta_jax.errors import require, unknown

LEAST = 1e-6
"""Shares of the Beta head stay this far inside (0, 1), where their density is finite in float32."""

LEAST_OF_ROW = 1e-30
"""Those of a Dirichlet row may be far smaller: with parameters below one a good part of the draws is."""


class Anchor(NamedTuple):
    """Matrices a head may lean on."""

    plan: jax.Array  # [R, R] row-stochastic, the plan of optimal transport for this slot
    last: jax.Array  # [R, R] row-stochastic, the routing of the last slot


class Head(Protocol):
    """A family of distributions over routing matrices."""

    def num_raw(self, regions: int) -> int:
        """K, numbers per row that the network must give."""
        ...

    def draw(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """[R, D] a latent, from [R, K]."""
        ...

    def mean(self, raw: jax.Array) -> jax.Array:
        """[R, D] the latent of the policy without luck."""
        ...

    def log_prob(self, raw: jax.Array, latent: jax.Array) -> jax.Array:
        """[R] log density of each row's latent."""
        ...

    def entropy(self, raw: jax.Array) -> jax.Array:
        """[R] differential entropy of each row's latent, in nats."""
        ...

    def matrix(self, latent: jax.Array, anchor: Anchor) -> jax.Array:
        """[R, R] row-stochastic."""
        ...


@dataclass(frozen=True)
class Beta:
    """A share in (0, 1) for every entry, then rows are normalised (the paper's head, Section V-B2).

    Both parameters are 1 + softplus: unimodal, as of Chou, Maturana and Scherer, ICML 2017.
    """

    def num_raw(self, regions: int) -> int:
        return 2 * regions

    def _parameters(self, raw):
        a, b = jnp.split(1 + jax.nn.softplus(raw), 2, axis=-1)
        return a, b

    def draw(self, key, raw):
        return jnp.clip(jax.random.beta(key, *self._parameters(raw)), LEAST, 1 - LEAST)

    def mean(self, raw):
        a, b = self._parameters(raw)
        return a / (a + b)

    def log_prob(self, raw, latent):
        a, b = self._parameters(raw)
        return ((a - 1) * jnp.log(latent) + (b - 1) * jnp.log1p(-latent) - betaln(a, b)).sum(axis=-1)

    def entropy(self, raw):
        a, b = self._parameters(raw)
        each = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)
        return each.sum(axis=-1)

    def matrix(self, latent, anchor):
        del anchor
        return latent / latent.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Dirichlet:
    """A row is a point of the simplex; its parameters are `least` + softplus."""

    least: float = 0.2

    def num_raw(self, regions: int) -> int:
        return regions

    def _parameters(self, raw):
        return self.least + jax.nn.softplus(raw)

    def draw(self, key, raw):
        share = jnp.maximum(jax.random.dirichlet(key, self._parameters(raw)), LEAST_OF_ROW)
        return share / share.sum(axis=-1, keepdims=True)

    def mean(self, raw):
        a = self._parameters(raw)
        return a / a.sum(axis=-1, keepdims=True)

    def _log_norm(self, a):
        return gammaln(a).sum(axis=-1) - gammaln(a.sum(axis=-1))

    def log_prob(self, raw, latent):
        a = self._parameters(raw)
        return ((a - 1) * jnp.log(latent)).sum(axis=-1) - self._log_norm(a)

    def entropy(self, raw):
        a = self._parameters(raw)
        whole = a.sum(axis=-1)
        spread = (whole - a.shape[-1]) * digamma(whole) - ((a - 1) * digamma(a)).sum(axis=-1)
        return self._log_norm(a) + spread

    def matrix(self, latent, anchor):
        del anchor
        return latent


@dataclass(frozen=True)
class Gaussian:
    """What the three heads with a normal latent share: a mean and a log standard deviation per number.

    The network gives means in units of `initial_std`, so that a step of its optimiser is as far in one head as in
    another. No standard deviation falls below half the initial one: the narrower a policy, the farther the same step
    moves it, and PPO's clip would end every update with the first.
    """

    initial_std: float = 0.02

    def _split(self, raw):
        mean, log_std = jnp.split(raw, 2, axis=-1)
        return self.initial_std * mean, math.log(self.initial_std) + jnp.clip(log_std, -math.log(2), 2.0)

    def draw(self, key, raw):
        mean, log_std = self._split(raw)
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)

    def mean(self, raw):
        return self._split(raw)[0]

    def log_prob(self, raw, latent):
        mean, log_std = self._split(raw)
        distance = (latent - mean) * jnp.exp(-log_std)
        return -(0.5 * distance**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(axis=-1)

    def entropy(self, raw):
        return (self._split(raw)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(axis=-1)


@dataclass(frozen=True)
class LogisticNormal(Gaussian):
    """Rows are a softmax of normal numbers (the paper's Appendix B speaks of a softmax)."""

    initial_std: float = 0.5

    def num_raw(self, regions: int) -> int:
        return 2 * regions

    def matrix(self, latent, anchor):
        del anchor
        return jax.nn.softmax(latent, axis=-1)


@dataclass(frozen=True)
class OtResidual(Gaussian):
    """Rows are a softmax of log P* plus normal numbers: with none of them the matrix is the plan."""

    def num_raw(self, regions: int) -> int:
        return 2 * regions

    def matrix(self, latent, anchor):
        return jax.nn.softmax(_log(anchor.plan) + latent, axis=-1)


@dataclass(frozen=True)
class Gate(Gaussian):
    """Two numbers per region: how much of its row is new, and a bonus on its column of the plan.

    A = (1 − g)·A_last + g·softmax(log P* + bonus). With both numbers zero it is the closed form of Eq 3's one-step
    optimum, g = 1 / (1 + λ1).
    """

    initial_std: float = 0.1  # a gate has to move by more than a share has
    smoothing: float = 0.2  # λ1 of Eq 3, as `learn.routing.Reward` has it

    def num_raw(self, regions: int) -> int:
        del regions
        return 4

    def matrix(self, latent, anchor):
        opening, bonus = latent[..., 0], latent[..., 1]
        # The logit of 1 / (1 + λ1) is -log λ1; a λ1 of zero opens the gate.
        gate = jax.nn.sigmoid(opening - math.log(max(self.smoothing, LEAST)))[..., None]
        fresh = jax.nn.softmax(_log(anchor.plan) + bonus[..., None, :], axis=-1)
        return (1 - gate) * anchor.last + gate * fresh


def _log(share: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(share, 1e-12))


BY_NAME: dict[str, type] = {
    "beta": Beta,
    "dirichlet": Dirichlet,
    "logistic-normal": LogisticNormal,
    "ot-residual": OtResidual,
    "gate": Gate,
}
NAMES = tuple(BY_NAME)


def get(name: str, **numbers: float) -> Head:
    """The head called `name`.

    Args:
        numbers: its own settings, where it has any.

    Raises:
        InputError: for an unknown name, with the nearest one, or a setting it does not have.
    """
    if name not in BY_NAME:
        raise unknown("head", name, NAMES)
    fields = BY_NAME[name].__dataclass_fields__
    for number in numbers:
        require(number in fields, f"head {name}: no setting {number}; there are {', '.join(fields) or 'none'}")
    return BY_NAME[name](**numbers)
