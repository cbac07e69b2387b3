"""What happens to the world: surges, failures with repair, price shocks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

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

EVENTS: dict[str, type[Event]] = {"surge": Surge, "failure": Failure, "price_shock": PriceShock}
"""Every kind of event by its name in a configuration file."""


def calm(num_slots: int, num_regions: int) -> Scenario:
    """A world in which nothing happens."""
    for name, number in {"num_slots": num_slots, "num_regions": num_regions}.items():
        whole = hasattr(number, "__index__") and number > 0
        require(whole, f"{name} = {number}: a whole number of at least 1 is needed")
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
    kinds = {kind: name for name, kind in EVENTS.items()}
    number: Counter[str] = Counter()
    for event in events:
        name = kinds[type(event)]
        number[name] += 1
        place = f"{name} {number[name]}"
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
    u = [_uniform(draws.fold(key, kind), 1 + max(surges, failures, shocks), 5 + num_regions) for kind in range(3)]
    when = partial(_random_when, num_slots=num_slots, longest_share=longest_share)
    # The k-th failure hits the region whose number is the k-th smallest of R.
    lot = u[FAILURES][0, 5:]
    victim = (lot < lot[:, None]).sum(axis=-1) == jnp.arange(failures)[:, None]
    fails = when(u[FAILURES][1 : 1 + failures])[:, :, None] & victim[:, None]
    rate, price = u[SURGES][:surges], u[SHOCKS][:shocks]
    return Scenario(
        rate_factor=_random_factor(rate, when(rate), max_surge),
        alive=~fails.any(axis=0),
        price_factor=_random_factor(price, when(price), max_price),
    )


def _cells(event: Event, place: str, num_slots: int, names: list[str]) -> tuple[np.ndarray, ...]:
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


def _uniform(key: jax.Array, num_rows: int, num_columns: int) -> jax.Array:
    return draws.unit(draws.words(key, num_rows, num_columns))


def _random_when(u: jax.Array, num_slots: int, longest_share: float | jax.Array) -> jax.Array:
    """[count, T] bool: the slots in which each event lasts, from its uniform numbers [count, ...]."""
    first = jnp.floor(u[:, :1] * num_slots)
    last = first + jnp.floor(u[:, 1:2] * longest_share * num_slots)
    slot = jnp.arange(num_slots)
    return (slot >= first) & (slot <= last)


def _random_factor(u: jax.Array, when: jax.Array, largest: float | jax.Array) -> jax.Array:
    """[T, R] product of the factors of random events, from their uniform numbers [count, 5 + R]."""
    size, reach, one, chance = u[:, 2], u[:, 3:4], u[:, 4:5], u[:, 5:]
    num_regions = chance.shape[-1]
    certain = jnp.arange(num_regions) == jnp.floor(one * num_regions)
    hit = when[:, :, None] & ((chance < reach) | certain)[:, None, :]
    factor = largest * 4.0 ** -size[:, None, None]
    return jnp.where(hit, factor, 1.0).prod(axis=0)
