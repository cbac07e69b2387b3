"""The interval of a mean over trainings and clusters."""

import numpy as np
import pytest

from experiments.generalise import crossed_mean


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
