"""Which values the options of `torta compare`, on the command line and in a file alike, and of `torta train` allow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torta_jax.errors import InputError, unknown

Check = Callable[[str, Any], Any]
"""Takes the place an error is to name and the value; returns the value to use, or raises `InputError`."""

INTERRUPTED = 130
"""Exit status after an interruption."""

MAX_SLOTS = 100_000
MOST_ROOM = 20
MAX_SEED = 2**31 - 1


def check(place: str, option: str, value: Any) -> Any:
    """The value of an option in the form the program uses.

    Raises:
        InputError: naming the place, the value, what is allowed and, for a choice, the nearest.
    """
    return RULES[option](place, value)


@dataclass(frozen=True)
class Within:
    """A number of a type from `low` to `high`, both included; printed as help shows it."""

    low: float
    high: float
    type: type[int] | type[float]

    def __call__(self, place: str, value: Any) -> float:
        """The number as the type has it; a whole number counts as one of any type."""
        good = isinstance(value, int | self.type) and not isinstance(value, bool) and self.low <= value <= self.high
        return self.type(_need(good, place, value, f"a {'whole ' * (self.type is int)}number from {self}"))

    def __str__(self) -> str:
        return " to ".join(str(end) if self.type is int else f"{end:g}" for end in (self.low, self.high))


def whole(low: int, high: int) -> Within:
    return Within(low, high, int)


def number(low: float, high: float) -> Within:
    return Within(low, high, float)


def choice(*allowed: str) -> Check:
    def checked(place: str, value: Any) -> str:
        if value not in allowed:
            raise InputError(f"{place}: {unknown('value', value, allowed)}")
        return value

    return checked


def text(place: str, value: Any) -> str:
    good = isinstance(value, str) and value.strip() != "" and "\0" not in value
    return _need(good, place, value, "a text that is not empty")


def names(place: str, value: Any) -> tuple[str, ...]:
    """A list of names; one text may hold several, separated by commas; none twice."""
    good = isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(name, str) for name in value)
    _need(good, place, value, "a list of names")
    found = tuple(part.strip() for name in value for part in name.split(","))
    _need(all(found), place, value, "a list of names that are not empty")
    _need(len(set(found)) == len(found), place, value, "a list without repetition")
    return found


def regions(place: str, value: Any) -> tuple[str | int, ...]:
    good = isinstance(value, list | tuple) and len(value) > 0
    good = good and all(isinstance(name, str | int) and not isinstance(name, bool) for name in value)
    return tuple(_need(good, place, value, "a list of regions by name or number"))


def events(optional: Mapping[str, Check], required: Mapping[str, Check]) -> Check:
    """Tables `[[name]]` of the file, each with every required key."""

    def checked(place: str, value: Any) -> tuple[dict[str, Any], ...]:
        good = isinstance(value, list | tuple) and all(isinstance(row, Mapping) for row in value)
        _need(good, place, value, f"one or more tables [[{place.rpartition(' ')[2]}]]")
        return tuple(event(f"{place} {i}", row) for i, row in enumerate(value, start=1))

    def event(place: str, row: Mapping[str, Any]) -> dict[str, Any]:
        rules = {**required, **optional}
        for key in row:
            if key not in rules:
                raise InputError(f"{place}: {unknown('key', key, rules)}")
        for key in required:
            if key not in row:
                raise InputError(f"{place}: {key} is missing (needed: {', '.join(required)})")
        return {key: rules[key](f"{place}: {key}", value) for key, value in row.items()}

    return checked


def _need(good: bool, place: str, value: Any, allowed: str) -> Any:
    if not good:
        shown = repr(value)
        raise InputError(f"{place} = {shown if len(shown) < 80 else shown[:80] + '…'}: {allowed} is needed")
    return value


_WHEN = {"start_slot": whole(0, MAX_SLOTS), "num_slots": whole(1, MAX_SLOTS)}
_CHANGE = _WHEN | {"factor": number(0, 1000)}
_WHERE = {"regions": regions}

NUMBERS: dict[str, Within] = {
    "seeds": whole(1, 65_536),
    "slots": whole(1, MAX_SLOTS),
    "load": number(0.001, 100),
    "start_hour": number(0, 24),
    "fleet_seed": whole(0, MAX_SEED),
    "room": number(0.1, MOST_ROOM),
}
"""Of `torta compare`."""

RULES: dict[str, Check] = NUMBERS | {
    "topology": text,
    "nodes": text,
    "links": text,
    "policies": names,
    "policy_file": text,
    "reference": text,
    "trace": text,
    "information": choice("online", "slot"),
    "prices": choice("auto", "flat", "hourly", "spread"),
    "latency": choice("geography", "paper"),
    "fleet_scope": choice("total", "per-region"),
    "out": text,
    "surge": events(_WHERE, _CHANGE),
    "failure": events(_WHERE, _WHEN),
    "price_shock": events(_WHERE, _CHANGE),
}
"""Every option that may stand in a file."""

TRAINING_NUMBERS: dict[str, Within] = {
    "updates": whole(1, 1_000_000),
    "worlds": whole(1, 65_536),
    "slots": whole(13, 10_000),
    "regions": whole(1, 256),
    "servers": whole(1, 1024),
    "envs": whole(1, 65_536),
    "steps": whole(5, 900),
    "learning_rate": number(1e-8, 1),
    "warmup_weight": number(0, 1000),
    "seed": whole(0, MAX_SEED),
}
"""Of `torta train`."""

TRAINING: dict[str, Check] = TRAINING_NUMBERS | {
    "out": text,
    "kinds": names,
    "topology": text,
    "head": text,
    "rule": text,
}
"""Every option of `torta train` that has a range."""
