"""Intervals of a mean over trainings and clusters, and of a share of gaps."""

import re

import numpy as np
import pytest

from experiments.intervals import crossed_mean, relative, share_of_gap


@pytest.mark.parametrize("spread", [(0.3, 1.5, 0.5), (1.0, 0.1, 0.2), (0.5, 0.5, 2.0)])
def test_the_interval_covers_the_mean_as_often_as_it_says_or_a_little_more(spread):
    """Of trainings, of clusters, and of each pair."""
    draw, covered = np.random.default_rng(0), []
    for _ in range(2000):
        parts = ((10, 1), (1, 32), (10, 32))
        values = np.zeros(parts[-1])
        for scale, shape in zip(spread, parts, strict=True):
            values = values + scale * draw.normal(size=shape)
        low, high = crossed_mean(values)
        covered.append(low < 0 < high)
    assert 0.94 < np.mean(covered) < 0.995


def test_a_share_of_gaps_is_that_of_their_sums():
    gap = np.array([1.0, 2.0, 5.0])
    assert share_of_gap(0.5 * gap[None], gap) == "50 [50, 50]"
    assert share_of_gap(np.array([[1.0, 0.0, 3.0]]), gap).startswith("50 [")
    assert share_of_gap(np.array([[1.0, 0.0, 3.0], 0 * gap]), gap).startswith("25 [")


@pytest.mark.parametrize("true", [0.3, 0.6, 0.98, 1.5])
def test_the_interval_of_a_difference_in_per_cent_minds_that_the_base_is_a_sample(true):
    """Of ten trainings in 64 clusters, whose cost goes mostly with that of the base."""
    draw, covered, width = np.random.default_rng(0), [], []
    for _ in range(400):
        base = draw.lognormal(sigma=0.5, size=64)
        cost = true * base * (1 + 0.05 * draw.normal(size=64) + 0.02 * draw.normal(size=(10, 1)))
        assert relative(cost, base).mean() == pytest.approx(100 * (cost.mean() / base.mean() - 1))
        low, high = crossed_mean(relative(cost, base))
        covered.append(low <= 100 * (true - 1) <= high)
        width.append(high - low)
    assert np.mean(covered) > 0.92
    assert np.mean(width) < 5 * true  # taking the base as known it would be 15 where the cost is halved


@pytest.mark.parametrize("trainings", [1, 10])
def test_the_interval_of_a_share_covers_it_nearly_as_often_as_it_says(trainings):
    """Of 16 clusters, whose gaps are as skewed as they are."""
    draw, covered = np.random.default_rng(0), []
    for _ in range(500):
        gap = draw.lognormal(sigma=0.6, size=16)
        luck = (
            draw.normal(size=(trainings, 1)) * (trainings > 1),
            draw.normal(size=16),
            draw.normal(size=(trainings, 16)),
        )
        closed = gap * (0.5 + 0.05 * luck[0] + 0.2 * luck[1] + 0.1 * luck[2])
        low, high = map(float, re.findall(r"-?\d+", share_of_gap(closed, gap))[1:])
        covered.append(low - 0.5 <= 50 <= high + 0.5)
    assert np.mean(covered) > 0.92
