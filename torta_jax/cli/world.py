"""From options to the things that are simulated."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax

from torta_jax import cluster as clusters
from torta_jax import schedulers
from torta_jax.calibration import CALIBRATED
from torta_jax.cli import memory
from torta_jax.cli.options import Compare
from torta_jax.errors import InputError, about, unknown
from torta_jax.evaluate.compare import REFERENCE
from torta_jax.evaluate.rollout import waiting_slots, world_keys
from torta_jax.schedulers.policy_file import unpack
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, Scenario
from torta_jax.workload import Synthetic, Trace, TraceTable, read
from torta_jax.workload.models import stand_ins
from torta_jax.workload.scenario import EVENTS
from torta_jax.workload.scenario import compile as compile_scenario

SLOTS = 480
TRAINED = "torta-trained"
"""Name of the policy of `--policy-file`."""

OVERFLOW_PROBABILITY = 1e-6
RECORDED: dict[str, Any] = {"speed_spread": 1.0, "mismatch": 1.0}
"""Tokens of a trace take each GPU type the catalogue's time; the calibrated speeds belong to synthetic work."""


@dataclass(frozen=True)
class World:
    """A comparison ready to run."""

    options: Compare  # with nothing left open
    cluster: Cluster
    workload: Synthetic | Trace
    scenario: Scenario
    policies: dict[str, Any]  # schedulers by name
    physics: Physics
    facts: dict[str, Any]  # what was simulated, for the result
    notes: tuple[str, ...]  # what the user should know before it runs


def build(options: Compare) -> World:
    """The world of checked options.

    Raises:
        InputError: naming the option or the file's key, and what is known or allowed.
    """
    policies = _policies(options)
    options = replace(options, reference=_reference(options, policies))
    network = _network(options)
    slot_s = float(Physics().slot_s)
    table = None if options.trace is None else read(options.trace)
    speeds: dict[str, Any] = {} if table is None else RECORDED
    cluster = clusters.build(
        network,
        scope=options.fleet_scope,
        prices=options.prices,
        latency=options.latency,
        seed=options.fleet_seed,
        **speeds,
    )
    lasting = SLOTS if table is None else min(SLOTS, int(table.time_s[-1] // slot_s) + 1)
    num_slots = lasting if options.slots is None else options.slots
    memory.check(options, len(policies), num_slots, cluster.num_regions)
    scenario = _scenario(options, num_slots, network.nodes)
    if table is None:
        options = _with_calibrated(options)
        workload = _synthetic(options, cluster, scenario, num_slots, slot_s)
    else:
        workload = Trace.from_table(table, regions=network.nodes, num_slots=num_slots, slot_s=slot_s)
    room = waiting_slots(workload, scenario) if options.room is None else options.room
    physics = Physics().sized(cluster, workload.max_tasks, room)
    prices = clusters.resolve_prices(network, options.prices)
    notes = _notes(options, network, table, prices, num_slots, slot_s)
    named = tuple(name for name in policies if name != TRAINED)
    options = replace(options, slots=num_slots, policies=named, room=room, prices=prices)
    return World(options, cluster, workload, scenario, policies, physics, _facts(options, network, cluster), notes)


def _policies(options: Compare) -> dict[str, Any]:
    names = options.policies or schedulers.COMPARED
    known = (*schedulers.NAMES, *schedulers.LEARNED)
    for name in names:
        if name not in known:
            of_file = f"{name} is the policy of --policy-file" if name == TRAINED else None
            raise InputError(f"{options.place('policies')}: {of_file or unknown('policy', name, known)}")
    found: dict[str, Any] = {name: schedulers.get(name) for name in names}
    return found if options.policy_file is None else found | {TRAINED: schedulers.load(options.policy_file)}


def _reference(options: Compare, policies: dict[str, Any]) -> str | None:
    """The policy that the others are compared with, if there is one."""
    if options.reference is None:
        return REFERENCE if REFERENCE in policies else None
    if options.reference not in policies:
        unknown_name = unknown("policy", options.reference, policies)
        known = options.reference in (*schedulers.NAMES, *schedulers.LEARNED)
        told = f"{options.reference!r} is not one of the policies to run ({', '.join(policies)})"
        raise InputError(f"{options.place('reference')}: {told if known else unknown_name}")
    return options.reference


def _network(options: Compare) -> clusters.Topology:
    if options.nodes is not None and options.links is not None:
        return clusters.from_csv(options.nodes, options.links)
    with about(options.place("topology")):
        return clusters.load(options.topology)


def _scenario(options: Compare, num_slots: int, regions) -> Scenario:
    events = [make(**row) for name, make in EVENTS.items() for row in getattr(options, name)]
    with about(str(options.config)):
        return compile_scenario(events, num_slots, tuple(regions))


def _with_calibrated(options: Compare) -> Compare:
    """The same options, those of synthetic arrivals that are left open taken from the calibrated world."""
    default = {"load": CALIBRATED.load, "start_hour": CALIBRATED.start_hour_utc}
    return replace(options, **{name: value for name, value in default.items() if getattr(options, name) is None})


def _synthetic(options: Compare, cluster: Cluster, scenario: Scenario, num_slots: int, slot_s: float) -> Synthetic:
    """Arrivals with room for the busiest slot of every seed; more room than the default only where needed."""
    assert options.load is not None
    assert options.start_hour is not None
    workload = Synthetic.create(load=options.load, start_hour_utc=options.start_hour)

    @jax.jit
    @jax.vmap
    def prepare(key):
        return workload.prepare(cluster, scenario, key, num_slots, slot_s)

    try:
        room = workload.padded_for(prepare(world_keys(range(options.seeds))), OVERFLOW_PROBABILITY)
    except InputError as error:
        causes = " and the surges' factors" if options.surge else ""
        raise InputError(f"{options.place('load')} = {options.load:g}{causes}: {error}") from error
    return room if room.max_tasks > workload.max_tasks else workload


def _notes(
    options: Compare, network: clusters.Topology, table: TraceTable | None, prices: str, num_slots: int, slot_s: float
) -> tuple[str, ...]:
    """What a user should know of a world before it runs."""
    notes = []
    if options.prices == "auto" and prices == "spread":
        missing, regions = sum(map(math.isnan, network.usd_per_kwh)), network.num_regions
        why = f"{missing} of {regions} regions have none of their own" if missing else "all regions have the same"
        notes.append(f"electricity prices are drawn (--prices spread): {why}")
    if table is not None:
        slot = table.time_s // slot_s
        late, ends = int((slot >= num_slots).sum()), int(slot[-1]) + 1
        if late:
            notes.append(f"{table.source}: {late:,} of {len(table):,} requests come later and are left out (--slots)")
        if ends < num_slots:
            notes.append(f"{table.source}: ends in slot {ends} of {num_slots}; nothing arrives after it")
        if table.models:
            notes.append(f"{table.source}: {stand_ins(table.models)}")
    if options.policy_file is not None:
        trained_on = unpack(options.policy_file)[1].get("topology", network.name)
        if trained_on != network.name:
            notes.append(f"{options.policy_file}: trained on {trained_on}, this is {network.name}")
    return tuple(notes)


def _facts(options: Compare, network: clusters.Topology, cluster: Cluster) -> dict[str, Any]:
    return {
        "topology": network.name,
        "reference": options.reference,
        "regions": cluster.num_regions,
        "servers": int(cluster.server_mask.sum()),
        "seeds": options.seeds,
        "slots": options.slots,
        "slot_s": float(Physics().slot_s),
        "information": options.information,
        "trace": options.trace,
        "load": options.load,
        "start_hour": options.start_hour,
        "prices": options.prices,
        "latency": options.latency,
        "fleet_scope": options.fleet_scope,
        "fleet_seed": options.fleet_seed,
        "room": options.room,
        "events": {name: [dict(row) for row in getattr(options, name)] for name in EVENTS},
    }
