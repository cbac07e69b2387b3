"""Heads: densities and entropies against SciPy, matrices against what they are said to be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from torta_jax.errors import InputError
from torta_jax.schedulers import heads
from torta_jax.schedulers.heads import Anchor

REGIONS = 4
DRAWS = 20_000


def raw_of(head, scale=1.0, seed=0):
    return scale * jax.random.normal(jax.random.key(seed), (REGIONS, head.num_raw(REGIONS)))


def anchor_of(seed=3):
    plan, last = jax.random.dirichlet(jax.random.key(seed), jnp.ones(REGIONS), (2, REGIONS))
    return Anchor(plan, last)


def softplus(x):
    return np.logaddexp(0, np.asarray(x, np.float64))


def scipy_rows(name, raw) -> list[list[Any]]:
    """Per row the frozen SciPy distributions whose product is the row's, and the function that splits a latent."""
    raw = np.asarray(raw, np.float64)
    if name == "beta":
        a, b = np.split(1 + softplus(raw), 2, axis=-1)
        return [[stats.beta(*pair) for pair in zip(*row, strict=True)] for row in zip(a, b, strict=True)]
    if name == "dirichlet":
        return [[stats.dirichlet(row)] for row in 0.2 + softplus(raw)]
    mean, log_std = np.split(raw, 2, axis=-1)
    unit = heads.BY_NAME[name]().initial_std
    mean, std = unit * mean, unit * np.clip(np.exp(log_std), 0.5, np.exp(2))
    return [[stats.norm(*pair) for pair in zip(*row, strict=True)] for row in zip(mean, std, strict=True)]


@pytest.mark.parametrize("name", heads.NAMES)
def test_log_density_and_entropy_are_those_of_scipy(name):
    head = heads.get(name)
    raw = raw_of(head)
    latent = head.draw(jax.random.key(1), raw)
    rows = scipy_rows(name, raw)
    points = np.asarray(latent, np.float64)
    if name == "dirichlet":
        points = points / points.sum(axis=-1, keepdims=True)
        density = [row[0].logpdf(point) for row, point in zip(rows, points, strict=True)]
    else:
        density = [
            sum(d.logpdf(x) for d, x in zip(row, point, strict=True)) for row, point in zip(rows, points, strict=True)
        ]
    np.testing.assert_allclose(head.log_prob(raw, latent), density, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(head.entropy(raw), [sum(d.entropy() for d in row) for row in rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", heads.NAMES)
def test_draws_follow_the_density(name):
    """The mean of minus the log density over many draws is the entropy, within four standard errors."""
    head = heads.get(name)
    raw = raw_of(head)
    keys = jax.random.split(jax.random.key(2), DRAWS)
    latent = jax.vmap(head.draw, in_axes=(0, None))(keys, raw)
    surprise = -np.asarray(jax.vmap(head.log_prob, in_axes=(None, 0))(raw, latent), np.float64)
    error = surprise.std(axis=0) / DRAWS**0.5
    assert (np.abs(surprise.mean(axis=0) - np.asarray(head.entropy(raw))) < 4 * error + 1e-3).all()
    mean = np.asarray(latent).mean(axis=0)
    spread = np.asarray(latent).std(axis=0) / DRAWS**0.5
    assert (np.abs(mean - np.asarray(head.mean(raw))) < 5 * spread + 1e-5).all()


@pytest.mark.parametrize("name", heads.NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_every_draw_gives_rows_that_are_shares_and_finite_slopes(name, scale):
    head = heads.get(name)
    raw = raw_of(head, scale)
    anchor = Anchor(jnp.eye(REGIONS), jnp.eye(REGIONS))  # zeros in the plan
    latent = head.draw(jax.random.key(4), raw)
    matrix = head.matrix(latent, anchor)
    assert matrix.shape == (REGIONS, REGIONS)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=-1), 1, rtol=1e-5)
    slope = jax.grad(lambda raw: (head.log_prob(raw, latent) + head.entropy(raw)).sum())(raw)
    assert jnp.isfinite(slope).all()
    path = jax.grad(lambda raw: (head.matrix(head.mean(raw), anchor) ** 2).sum())(raw)
    assert jnp.isfinite(path).all()


def test_without_a_network_the_residual_is_the_plan_and_the_gate_is_the_closed_form():
    anchor = anchor_of()
    residual, gate = heads.OtResidual(), heads.Gate(smoothing=3.0)
    zero = jnp.zeros((REGIONS, residual.num_raw(REGIONS)))
    np.testing.assert_allclose(residual.matrix(residual.mean(zero), anchor), anchor.plan, rtol=1e-5)
    zero = jnp.zeros((REGIONS, gate.num_raw(REGIONS)))
    closed = (anchor.plan + 3.0 * anchor.last) / 4.0
    np.testing.assert_allclose(gate.matrix(gate.mean(zero), anchor), closed, rtol=1e-5)


@pytest.mark.parametrize("name", ["logistic-normal", "ot-residual", "gate"])
def test_a_standard_deviation_is_that_asked_for(name):
    head = heads.get(name, initial_std=0.3)
    raw = jnp.zeros((REGIONS, head.num_raw(REGIONS)))
    latent = jax.vmap(head.draw, in_axes=(0, None))(jax.random.split(jax.random.key(5), DRAWS), raw)
    np.testing.assert_allclose(np.asarray(latent).std(axis=0), 0.3, rtol=0.03)


def test_unknown_heads_and_settings_are_named():
    with pytest.raises(InputError, match=r"unknown head 'betta'; did you mean 'beta'"):
        heads.get("betta")
    with pytest.raises(InputError, match="head gate: no setting std; there are initial_std, smoothing"):
        heads.get("gate", std=0.1)
