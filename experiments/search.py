"""Minimise a function of some numbers, each in a range: a look around (Halton), then CMA-ES (Hansen's `cma`)."""

from collections.abc import Callable, Mapping

import cma
import numpy as np
from scipy.stats import qmc

EXPLORE = 1 / 3
"""Share of the evaluations that look around before the best of them is improved."""

Numbers = dict[str, float]


def minimise(
    cost: Callable[[Numbers], float],
    ranges: Mapping[str, tuple[float, float]],
    evaluations: int,
    *,
    start: Mapping[str, float] | None = None,
    width: float = 0.15,
    tell: Callable[[Numbers, float], None] = lambda numbers, value: None,
) -> tuple[Numbers, float]:
    """The best numbers found, rounded to four digits, and their cost.

    Args:
        cost: of some numbers; always the same for the same.
        ranges: name -> lowest and highest value.
        evaluations: how often `cost` is called, about.
        start: numbers to improve, without a look around; they are returned where nothing better is found.
        width: first standard deviation of the steps, in shares of the ranges.
        tell: called with every improvement.
    """
    low, high = np.array(list(ranges.values())).T
    best, best_cost = {}, np.inf

    def of_point(point: np.ndarray) -> float:
        nonlocal best, best_cost
        numbers = dict(zip(ranges, np.round(low + (high - low) * point, 4).tolist(), strict=True))
        value = np.nan_to_num(cost(numbers), nan=np.inf)  # no task completed
        if value < best_cost:
            best, best_cost = numbers, value
            tell(numbers, value)
        return value

    if start is None:
        looked = qmc.Halton(len(ranges), rng=0).random(int(EXPLORE * evaluations))
    else:
        looked = np.clip((np.array([[start[name] for name in ranges]]) - low) / (high - low), 0, 1)
    for point in looked:
        of_point(point)
    origin = best or start or {}
    begin = (np.array([origin[name] for name in ranges]) - low) / (high - low)
    normal = np.random.default_rng(1).standard_normal  # NumPy's own would be shared by searches side by side
    settings = {"bounds": [0, 1], "maxfevals": evaluations - len(looked), "verbose": -9}
    settings |= {"randn": lambda *size: normal(size), "seed": np.nan}
    cma.CMAEvolutionStrategy(np.clip(begin, 0, 1), width, settings).optimize(of_point)
    return best, best_cost


def at_an_edge(numbers: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the numbers within a hundredth of their range from its ends."""
    near = {name: 0.01 * (high - low) for name, (low, high) in ranges.items()}
    return [
        name
        for name, (low, high) in ranges.items()
        if numbers[name] < low + near[name] or numbers[name] > high - near[name]
    ]
