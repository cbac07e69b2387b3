"""What happens to the world: surges, failures with repair, price shocks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.errors import InputError, require, unknown
from torta_jax.types import Scenario
from torta_jax.workload import draws

Regions = Sequence[str | int] | None
"""Regions by name or index; `None` is all of them."""

SURGES, FAILURES, SHOCKS = range(3)


@dataclass(frozen=True)
class Surge:
    """Arrivals `factor` times as many (below 1: fewer)."""

    start_slot: int
    num_slots: int
    factor: float
    regions: Regions = None


@dataclass(frozen=True)
class Failure:
    """Regions down for `num_slots` slots, then repaired."""

    start_slot: int
    num_slots: int
    regions: Regions = None


@dataclass(frozen=True)
class PriceShock:
    """Electricity `factor` times as dear (below 1: cheaper)."""

    start_slot: int
    num_slots: int
    factor: float
    regions: Regions = None


Event = Surge | Failure | PriceShock


def calm(num_slots: int, num_regions: int) -> Scenario:
    """A world in which nothing happens."""
    ones = jnp.ones((num_slots, num_regions))
    return Scenario(rate_factor=ones, alive=jnp.ones(ones.shape, bool), price_factor=ones)


def compile(events: Iterable[Event], num_slots: int, regions: int | Sequence[str]) -> Scenario:
    """The scenario of some events; factors of overlapping events multiply.

    Args:
        events: in any order; what lies beyond the horizon is cut.
        num_slots: T.
        regions: their names, or their number.

    Raises:
        InputError: naming the event and its field, for an unknown region, a slot outside the horizon, an
            event without slots, or a factor that is negative or not finite.
    """
    names = [str(i) for i in range(regions)] if isinstance(regions, int) else list(regions)
    rate, price = np.ones((2, num_slots, len(names)))
    alive = np.ones((num_slots, len(names)), dtype=bool)
    for number, event in enumerate(events, start=1):
        place = f"event {number} ({type(event).__name__})"
        where = _cells(event, place, num_slots, names)
        if isinstance(event, Failure):
            alive[where] = False
        else:
            good = np.isfinite(event.factor) and event.factor >= 0
            require(bool(good), f"{place}: factor = {event.factor}, a number of at least 0 is needed")
            (rate if isinstance(event, Surge) else price)[where] *= event.factor
    return Scenario(jnp.asarray(rate, float), jnp.asarray(alive), jnp.asarray(price, float))


def random_scenario(
    key: jax.Array,
    num_slots: int,
    num_regions: int,
    *,
    surges: int = 2,
    failures: int = 1,
    shocks: int = 2,
    longest_share: float | jax.Array = 0.25,
    max_surge: float | jax.Array = 5.0,
    max_price: float | jax.Array = 4.0,
) -> Scenario:
    """A random world for tests over thousands of them; pure, and can be vmapped over keys.

    Each event starts in a uniform slot, lasts a uniform number of slots from 1 to `longest_share` of the
    horizon (cut at its end), and hits a random non-empty set of regions. A failure hits one region, no two
    of them the same, and one region never fails. Factors are log-uniform from 1/4 of the largest to the
    largest.

    Args:
        surges, failures, shocks: number of events, static; failures are at most `num_regions - 1`.
    """
    failures = min(failures, num_regions - 1)
    down = _random_when(draws.fold(key, FAILURES, 0), failures, num_slots, longest_share)
    victim = jax.random.permutation(draws.fold(key, FAILURES, 1), num_regions)[:failures]
    fails = (down[:, :, None] & (victim[:, None, None] == jnp.arange(num_regions))).any(axis=0)
    shape = (num_slots, num_regions)
    return Scenario(
        rate_factor=_random_factor(draws.fold(key, SURGES), surges, shape, longest_share, max_surge),
        alive=~fails,
        price_factor=_random_factor(draws.fold(key, SHOCKS), shocks, shape, longest_share, max_price),
    )


def _cells(event: Event, place: str, num_slots: int, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the slots and regions an event hits."""
    start, length = event.start_slot, event.num_slots
    require(0 <= start < num_slots, f"{place}: start_slot = {start}, allowed are 0 to {num_slots - 1}")
    require(length >= 1, f"{place}: num_slots = {length}, at least 1 is needed")
    regions = range(len(names)) if event.regions is None else event.regions
    hit = [_index(name, place, names) for name in regions]
    require(len(hit) > 0, f"{place}: no region named")
    # A region named twice is hit once.
    return np.ix_(np.arange(start, min(start + length, num_slots)), np.unique(hit))


def _index(region: str | int, place: str, names: list[str]) -> int:
    if isinstance(region, str):
        if region not in names:
            raise InputError(f"{place}: {unknown('region', region, names)}")
        return names.index(region)
    require(0 <= region < len(names), f"{place}: region {region}, allowed are 0 to {len(names) - 1}")
    return int(region)


def _random_when(key: jax.Array, count: int, num_slots: int, longest_share: float | jax.Array) -> jax.Array:
    """[count, T] bool: the slots in which each event lasts."""
    start, length = jax.random.uniform(key, (2, count, 1))
    first = jnp.floor(start * num_slots)
    last = first + jnp.floor(length * longest_share * num_slots)
    slot = jnp.arange(num_slots)
    return (slot >= first) & (slot <= last)


def _random_factor(
    key: jax.Array,
    count: int,
    shape: tuple[int, int],
    longest_share: float | jax.Array,
    largest: float | jax.Array,
) -> jax.Array:
    """[T, R] product of the factors of `count` random events."""
    num_slots, num_regions = shape
    when = _random_when(draws.fold(key, 0), count, num_slots, longest_share)
    size, reach, one = jax.random.uniform(draws.fold(key, 1), (3, count, 1))
    chance = jax.random.uniform(draws.fold(key, 2), (count, num_regions))
    certain = jnp.arange(num_regions) == jnp.floor(one * num_regions)
    hit = when[:, :, None] & ((chance < reach) | certain)[:, None, :]
    factor = largest * 4.0 ** -size[:, :, None]
    return jnp.where(hit, factor, 1.0).prod(axis=0)
