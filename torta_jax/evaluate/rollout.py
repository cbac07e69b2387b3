"""Run policies in worlds: batches of seeds, on every device, slot chunk by slot chunk."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from torta_jax.errors import require
from torta_jax.evaluate.episode import Episode
from torta_jax.sim.metrics import SlotMetrics
from torta_jax.sim.simulate import Run, advance, start
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, Scenario

LONGEST_CHUNK = 60
"""Slots per call of the compiled program: where progress is reported and a run can be interrupted."""

CPU_BATCH = 8
"""Clusters that a CPU device runs at once, always: XLA's arithmetic for another number differs in last bits, which now
and then send a task elsewhere. An accelerator runs as many as there are."""

WAITING_SLOTS = 4.0
"""Slots of arrivals to make room for where a surge or a failure is to come: as long as patience lasts."""

BATCH = "clusters"
DEVICES = "devices"

Progress = Callable[[str, int, int], None]
"""Called with the policy's name, slots done and slots in all."""


def world_keys(seeds: Sequence[int], stream: int = 0) -> jax.Array:
    """One typed key per seed; `stream` keeps worlds of other purposes (training, calibration) apart."""
    root = jax.random.fold_in(jax.random.key(0), stream)
    return jax.vmap(lambda seed: jax.random.fold_in(root, seed))(jnp.asarray(seeds))


def evaluate(
    cluster: Cluster,
    workload,
    scenario: Scenario,
    policies: Mapping[str, object],
    seeds: int | Sequence[int],
    num_slots: int,
    *,
    physics: Physics | None = None,
    information: str | None = None,
    stream: int = 0,
    progress: Progress | None = None,
) -> dict[str, Episode]:
    """Run every policy in the same worlds, one per seed.

    Args:
        scenario: of at least `num_slots` slots.
        policies: schedulers by name; those made of the same numbers share one compiled program.
        physics: default: room for this fleet and workload.
        information: `online` or `slot`, instead of the physics' own.
        seeds: the seeds, or how many (0, 1, …).

    Raises:
        InputError: without seeds, slots or policies, or with too short a scenario.
    """
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    require(len(seeds) > 0, "seeds: at least 1 is needed")
    require(num_slots > 0, "slots: at least 1 is needed")
    require(scenario.alive.shape[0] >= num_slots, f"scenario: {scenario.alive.shape[0]} slots, {num_slots} needed")
    stressed = bool((scenario.rate_factor > 1).any() | ~scenario.alive.all())
    sized = physics or Physics().sized(cluster, workload.max_tasks, WAITING_SLOTS if stressed else 0.5)
    sized = numbers(sized if information is None else sized.replace(information=information))
    mesh, batches = spread(list(seeds))
    things = numbers((cluster, workload, scenario))
    worlds = [prepare(*things, world_keys(batch, stream), num_slots, sized.slot_s) for batch in batches]
    episodes = {}
    for name, policy in policies.items():
        report = partial(progress, name) if progress else None
        episodes[name] = run_policy(worlds, sized, numbers(policy), num_slots, mesh, len(seeds), report)
    return episodes


def numbers(tree: Any) -> Any:
    """The tree with Python and NumPy numbers as arrays of JAX's default types, so that equal shapes share a compile."""

    def array(leaf):
        if isinstance(leaf, bool | np.bool_):
            return jnp.asarray(leaf)
        if isinstance(leaf, int | float):
            return jnp.asarray(leaf, float)
        return jnp.asarray(leaf)

    return jax.tree.map(array, tree)


@partial(jax.jit, static_argnums=4)
def prepare(cluster, workload, scenario, keys, num_slots: int, slot_s) -> World:
    """One world per key [B]; only what the key decides has the axis of the batch."""
    make = lambda key: make_world(cluster, workload, scenario, key, num_slots, slot_s)  # noqa: E731
    return jax.vmap(make, out_axes=WORLD_AXES)(keys)


def _world_of(shared: Any, own: Any) -> World:
    """What holds for the parts of a world that a batch shares, and for those that each key has for itself."""
    return World(cluster=shared, workload=shared, scenario=shared, prepared=own, key=own)


WORLD_AXES = _world_of(None, 0)
WORLD_SPECS = _world_of(P(), P(DEVICES))


def spread(seeds: list[int]) -> tuple[Mesh, list[list[int]]]:
    """The devices to use and the batches to run on them in turn, the last seed repeated to fill the last."""
    devices = jax.local_devices()
    per_device = CPU_BATCH if devices[0].platform == "cpu" else -(-len(seeds) // len(devices))
    devices = devices[: -(-len(seeds) // per_device)]
    size = per_device * len(devices)
    padded = seeds + [seeds[-1]] * (-len(seeds) % size)
    mesh = Mesh(np.array(devices), (DEVICES,), axis_types=(AxisType.Auto,))
    return mesh, [padded[first : first + size] for first in range(0, len(padded), size)]


def run_policy(worlds, physics, policy, num_slots: int, mesh: Mesh, count: int, progress=None) -> Episode:
    """The first `count` clusters of some batches of worlds under one policy."""
    batches, done = [], 0
    for world in worlds:
        run, rows = begin(world, physics, policy, mesh), []
        for chunk in chunks(num_slots):
            run, slots = proceed(world, physics, policy, run, chunk, mesh)
            rows.append(jax.tree.map(np.asarray, slots))  # waits for the device: memory holds one chunk
            done += chunk
            if progress:
                progress(done // len(worlds), num_slots)
        batches.append((joined(rows, axis=1), jax.tree.map(np.asarray, run.totals)))
    slots, totals = jax.tree.map(lambda x: x[:count], joined(batches, axis=0))
    return Episode(
        slots=slots,
        histogram=totals.histogram,
        arrived_by_origin=totals.arrived.sum(axis=-1),
        dropped_by_origin=totals.dropped.sum(axis=(1, 3)),
    )


def joined(parts: list, axis: int):
    """Trees of arrays as one, end to end."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def chunks(num_slots: int) -> list[int]:
    """Lengths of the calls: equal ones, one compile; without a good divisor the last one is shorter."""
    longest = min(num_slots, LONGEST_CHUNK)
    even = max(size for size in range(1, longest + 1) if num_slots % size == 0)
    if even >= longest / 4:
        return [even] * (num_slots // even)
    whole, rest = divmod(num_slots, longest)
    return [longest] * whole + [rest]


@partial(jax.jit, static_argnums=3)
def begin(world, physics, policy, mesh: Mesh) -> Run:
    """Runs before their first slot, spread over the devices."""
    one = jax.vmap(lambda world: start(world, physics, policy), in_axes=(WORLD_AXES,), axis_size=world.key.shape[0])
    return jax.lax.with_sharding_constraint(one(world), jax.sharding.NamedSharding(mesh, P(DEVICES)))


@partial(jax.jit, static_argnums=(4, 5), donate_argnums=3)
def proceed(world, physics, policy, run: Run, num_slots: int, mesh: Mesh) -> tuple[Run, SlotMetrics]:
    """`num_slots` further slots; each device loops over its own clusters only."""

    def local(world, physics, policy, run):
        one = lambda world, run: advance(world, physics, policy, run, num_slots, axis_name=BATCH)  # noqa: E731
        return jax.vmap(one, in_axes=(WORLD_AXES, 0), axis_name=BATCH)(world, run)

    specs = (WORLD_SPECS, P(), P(), P(DEVICES))
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(DEVICES), check_vma=False)(
        world, physics, policy, run
    )
