"""Contestants take turns, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """Something to be timed."""

    name: str
    batch: int
    num_slots: int
    run: Callable[[], int]  # returns the tasks it served

    @property
    def cluster_slots(self) -> int:
        return self.batch * self.num_slots


@dataclass(frozen=True)
class Time:
    """What it took, over all repeats."""

    tasks: int
    median_s: float
    worst_s: float
    cpu_s: float  # the least processor time of a repeat, which other people's programs disturb less


def race(contestants: list[Contestant], repeats: int, tell: Callable[[str], None]) -> Mapping[Contestant, Time]:
    """Warm up each contestant once, then time all of them in turn, `repeats` times."""
    tasks, times = {}, {contestant: [] for contestant in contestants}
    for contestant in contestants:
        tell(f"warm-up: {contestant.name}, batch {contestant.batch}")
        tasks[contestant] = contestant.run()
    for repeat in range(repeats):
        for contestant in contestants:
            tell(f"{repeat + 1} of {repeats}: {contestant.name}, batch {contestant.batch}")
            times[contestant].append(_clock(contestant.run))
    return {contestant: _summary(tasks[contestant], clocks) for contestant, clocks in times.items()}


def _clock(run: Callable[[], int]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _summary(tasks: int, clocks: list[tuple[float, float]]) -> Time:
    wall, cpu = zip(*clocks, strict=True)
    return Time(tasks, statistics.median(wall), max(wall), min(cpu))
