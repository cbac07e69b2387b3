"""The search behind the calibration and the tuning finds a known optimum, inside its ranges."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from experiments.search import minimise

RANGES = {"a": (-1.0, 3.0), "b": (0.0, 100.0), "c": (0.0, 1.0)}
OPTIMUM = {"a": 2.0, "b": 10.0, "c": 0.0}


def bowl(numbers):
    return sum(((numbers[name] - OPTIMUM[name]) / (high - low)) ** 2 for name, (low, high) in RANGES.items())


def test_it_finds_the_bottom_of_a_bowl_also_on_the_edge_of_a_range():
    best, cost = minimise(bowl, RANGES, 300)
    assert cost == pytest.approx(bowl(best))
    for name, (low, high) in RANGES.items():
        assert best[name] == pytest.approx(OPTIMUM[name], abs=0.01 * (high - low))


def test_it_keeps_to_ranges_and_budget_and_returns_the_best_it_has_tried():
    seen = []

    def cost(numbers):
        seen.append(bowl(numbers))
        assert all(low <= numbers[name] <= high for name, (low, high) in RANGES.items())
        return seen[-1]

    told = []
    _, value = minimise(cost, RANGES, 60, start=OPTIMUM | {"a": 3.0}, tell=lambda _, value: told.append(value))
    assert value == min(seen)
    assert told == sorted(told, reverse=True)
    assert 60 <= len(seen) < 75


def test_what_it_starts_from_is_kept_where_nothing_is_better():
    best, cost = minimise(bowl, RANGES, 8, start=OPTIMUM)
    assert best == OPTIMUM
    assert cost == 0


def test_the_same_search_gives_the_same_numbers():
    np.testing.assert_equal(minimise(bowl, RANGES, 40), minimise(bowl, RANGES, 40))


def test_searches_side_by_side_find_what_each_finds_alone():
    """They take turns, evaluation by evaluation, so that any number they shared would be noticed."""
    barrier = threading.Barrier(2)

    def cost(numbers):
        barrier.wait(timeout=60)
        return bowl(numbers)

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda _: minimise(cost, RANGES, 40), range(2)))
    np.testing.assert_equal(together, [minimise(bowl, RANGES, 40)] * 2)
