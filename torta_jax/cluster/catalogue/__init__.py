"""Facts with their sources, in the data files beside this one: GPU types, the paper's networks, prices.

The reasons of every choice stand in the files themselves (`gpus.toml`, `topologies.toml`, `*.csv`).
"""

import csv
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torta_jax.errors import unknown

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class GPU:
    """One GPU type. Speeds are relative to the A100; seconds, watts, GB."""

    name: str
    title: str
    count: tuple[int, int]  # Table I: lowest and highest number of GPUs
    kind: str  # the task kind it is meant for, of `types.KINDS`
    memory_gb: float
    active_w: float  # the board and its share of the machine, as the two below
    idle_w: float
    warming_w: float
    prefill_speed: float
    decode_speed: float
    migration_s: tuple[float, float, float, float]  # serialise, memory load, deserialise, engine warm-up
    warmup_s: float
    switch_s: float

    @property
    def migrate_out_s(self) -> float:
        return self.migration_s[0]

    @property
    def migrate_in_s(self) -> float:
        return sum(self.migration_s[1:])


@dataclass(frozen=True)
class PaperNetwork:
    """One row of Table I."""

    title: str
    regions: int
    bandwidth_gbps: float
    latency_s: float  # one constant between any two regions
    topohub: str | None = None  # None: the graph lies in this folder


@dataclass(frozen=True)
class Place:
    """A state or a country and what a kWh costs there."""

    usd_per_kwh: float
    hourly_profile: str  # key of `HOURLY_PROFILES`, or empty


def _toml(name: str) -> dict:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))


def _csv(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _gpus() -> tuple[GPU, ...]:
    """The GPU types; a model switch takes the V100's stages times the ratio of migration sums (Fig 3b)."""
    tables = _toml("gpus.toml")
    v100_switch_s = sum(tables.pop("switch_stages_s"))
    v100_migration_s = sum(tables["V100"]["migration_s"])
    idle = tables.pop("machine_idle")

    def gpu(name: str, facts: dict) -> GPU:
        switch_s = v100_switch_s * sum(facts["migration_s"]) / v100_migration_s
        pairs = {key: tuple(facts[key]) for key in ("count", "migration_s")}
        machine_w = facts.pop("machine_w")
        shares = {"active_w": machine_w, "idle_w": idle * machine_w, "warming_w": idle * machine_w}
        watts = {key: facts[key] + share for key, share in shares.items()}
        return GPU(name=name, switch_s=switch_s, **{**facts, **pairs, **watts})

    return tuple(gpu(name, facts) for name, facts in tables.items())


GPUS = _gpus()
"""The GPU types; a cluster's `gpu` field indexes this tuple."""

PAPER_NETWORKS = {name: PaperNetwork(**facts) for name, facts in _toml("topologies.toml").items()}
"""Table I by topology name."""

PLACES = {row["place"]: Place(float(row["usd_per_kwh"]), row["hourly_profile"]) for row in _csv("places.csv")}
"""Electricity prices by state (`US-CA`) or country (`DE`)."""

NODE_PLACES = {(row["topology"], row["node"]): row["place"] for row in _csv("node_places.csv")}
"""Where the nodes of a topohub network stand, by (topohub key, node name)."""

HOURLY_PROFILES = {
    row["profile"]: np.array([float(row[f"h{hour:02d}"]) for hour in range(24)]) for row in _csv("hourly_profiles.csv")
}
"""[24] by UTC hour, mean 1: the shape of a day-ahead market's average day."""


def gpu_index(name: str) -> int:
    """Index of a GPU type in `GPUS`.

    Raises:
        InputError: unknown name.
    """
    names = [gpu.name for gpu in GPUS]
    if name not in names:
        raise unknown("GPU", name, names)
    return names.index(name)


def place(name: str) -> Place:
    """The place called `name`.

    Raises:
        InputError: unknown name.
    """
    if name not in PLACES:
        raise unknown("place", name, PLACES)
    return PLACES[name]
