"""Run policies in worlds: batches of seeds, on every device, slot chunk by slot chunk."""

import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.cores import cores
from torta_jax.errors import require
from torta_jax.evaluate.episode import Episode, shortages
from torta_jax.sim.account import Totals
from torta_jax.sim.metrics import SlotMetrics
from torta_jax.sim.simulate import Run, advance, start
from torta_jax.sim.slot import World, check_policy, make_world
from torta_jax.sim.state import CALM_SLOTS, Physics
from torta_jax.types import Cluster, Scenario, numbers
from torta_jax.workload import draws

LONGEST_CHUNK = 60
"""Slots per call of the compiled program: where progress is reported and a run can be interrupted."""

CPU_BATCH = 8
"""Clusters that a CPU program runs at once, always: XLA's arithmetic for another number differs in last bits, which now
and then send a task elsewhere. An accelerator runs as many as there are."""

STRESSED_SLOTS = 4.0
"""Slots of waiting arrivals to make room for where a surge or a failure is to come: as long as patience lasts."""

TRACE_SLOTS = 6.0
"""For a trace, whose busiest slot may be small: a plan may send most of it to one cheap region."""

BATCH = "clusters"


class Shortage(UserWarning):
    """Tasks found no room in the padding, or had to wait for it."""


class Unlawful(UserWarning):
    """A policy asked for shares that are negative or not finite."""


class Interrupted(KeyboardInterrupt):
    """A comparison was interrupted; `episodes` are those of the policies that had finished."""

    def __init__(self, episodes: dict[str, Episode]):
        super().__init__(episodes)
        self.episodes = episodes

    def __str__(self) -> str:
        return f"policies that had finished: {', '.join(self.episodes) or 'none'}"


Progress = Callable[[str, int, int], None]
"""Called with a policy's name, its slots done and slots in all; policies may overlap."""


def world_keys(seeds: Sequence[int], stream: int = 0) -> jax.Array:
    """One typed key per seed; `stream` keeps worlds of other purposes (training, calibration) apart."""
    return draws.fold_each(draws.fold(jax.random.key(0), stream), jnp.asarray(seeds))


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

    Warns:
        Shortage: tasks found no room in the padding and count as dropped, or had to wait for it.
        Unlawful: a policy asked for shares that are negative or not finite; such slots' `switching_cost` is NaN.

    Raises:
        Interrupted: by the user; it holds what had finished.
        InputError: without seeds, slots or policies, with what is no policy, a scenario that is too short or of other
            regions, or slots of another length than a trace's.
    """
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    require(len(seeds) > 0, "seeds: at least 1 is needed")
    require(num_slots > 0, "slots: at least 1 is needed")
    require(scenario.alive.shape[0] >= num_slots, f"scenario: {scenario.alive.shape[0]} slots, {num_slots} needed")
    for name, policy in policies.items():
        check_policy(policy, f"policy {name}", cluster.num_regions)
    scenario = jax.tree.map(lambda rows: rows[:num_slots], scenario)
    sized = physics or roomy(cluster, workload, scenario)
    slot_s = getattr(workload, "slot_s", sized.slot_s)  # a trace has slots of its own
    require(slot_s == sized.slot_s, f"slot_s = {sized.slot_s}, but the trace's slots have {slot_s} s")
    sized = numbers(sized if information is None else sized.replace(information=information))
    worlds = make_worlds(cluster, workload, scenario, list(seeds), num_slots, sized.slot_s, stream)
    done, telling = Counter(), threading.Lock()

    def tell(name: str, slots: int) -> None:
        with telling:
            done[name] += slots
            if progress:
                progress(name, done[name] // len(worlds), num_slots)

    made = [(name, numbers(policy)) for name, policy in policies.items()]
    jobs = [(world, sized, policy, num_slots, partial(tell, name)) for name, policy in made for world in worlds]
    parts: list[Any] = [None] * len(jobs)

    def finished() -> dict[str, Episode]:
        each, found = len(worlds), {}
        for i, name in enumerate(policies):
            batches = parts[i * each : (i + 1) * each]
            if all(batch is not None and batch[0].arrived.shape[1] == num_slots for batch in batches):
                found[name] = episode(batches, len(seeds))
        return found

    try:
        side_by_side(run_batch, jobs, parts)
    except KeyboardInterrupt as interruption:
        raise Interrupted(finished()) from interruption
    episodes = finished()
    for note in shortages(episodes):
        warnings.warn(f"{note}; give the workload (`padded_for`) or the physics (`sized`) more", Shortage, stacklevel=2)
    for name, each in episodes.items():
        slots = int(np.isnan(each.slots.switching_cost).sum())
        note = f"policy {name}: slots in which it asked for shares that are negative or not finite: {slots:,}"
        if slots:
            warnings.warn(note, Unlawful, stacklevel=2)
    return episodes


def side_by_side(run: Callable[..., Any], jobs: list[tuple], results: list) -> None:
    """`results[i] = run(*jobs[i], stop)`, in a thread for each core.

    An error or an interruption sets the event `stop`.
    """
    stop = threading.Event()

    def one(place):
        if stop.is_set():
            return
        try:
            results[place] = run(*jobs[place], stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(cores()) as threads:
        try:
            list(threads.map(one, range(len(jobs))))
        finally:
            stop.set()


def roomy(cluster: Cluster, workload, scenario: Scenario) -> Physics:
    """Physics with room for a fleet, its arrivals and what will wait."""
    return Physics().sized(cluster, workload.max_tasks, waiting_slots(workload, scenario))


def waiting_slots(workload, scenario: Scenario) -> float:
    """Slots of waiting arrivals to make room for."""
    stressed = bool((scenario.rate_factor > 1).any() | ~scenario.alive.all())
    slots = STRESSED_SLOTS if stressed else CALM_SLOTS
    return max(slots, TRACE_SLOTS) if hasattr(workload, "slot_s") else slots


def make_worlds(
    cluster: Cluster, workload, scenario: Scenario, seeds: list[int], num_slots: int, slot_s, stream: int = 0
) -> list[World]:
    """Batches of worlds, each on its device; the last may end with copies of the last seed's."""
    things = numbers((cluster, workload, scenario))
    return [
        prepare(*things, jax.device_put(world_keys(batch, stream), device), num_slots, slot_s)
        for device, batch in spread(seeds)
    ]


@partial(jax.jit, static_argnums=4)
def prepare(cluster, workload, scenario, keys, num_slots: int, slot_s) -> World:
    """One world per key [B]; only what the key decides has the axis of the batch."""
    make = lambda key: make_world(cluster, workload, scenario, key, num_slots, slot_s)  # noqa: E731
    return jax.vmap(make, out_axes=WORLD_AXES)(keys)


WORLD_AXES: Any = World(cluster=None, workload=None, scenario=None, prepared=0, key=0)  # type: ignore[arg-type]
"""The cluster, the workload and the scenario are shared by a batch; each key has the rest for itself."""


def spread(seeds: list[int]) -> list[tuple[Any, list[int]]]:
    """Batches of equal size and the device of each, the last seed repeated to fill the last batch.

    A CPU's cores share one device and one program, a thread for each batch: a second device would get a program of
    its own, with other last bits.
    """
    devices = jax.local_devices()
    cpu = devices[0].platform == "cpu"
    size = CPU_BATCH if cpu else -(-len(seeds) // len(devices))
    padded = seeds + [seeds[-1]] * (-len(seeds) % size)
    parts = [padded[first : first + size] for first in range(0, len(padded), size)]
    return list(zip(itertools.cycle(devices[:1] if cpu else devices), parts, strict=False))


def run_batch(world: World, physics, policy, num_slots: int, tell: Callable[[int], None], stop: threading.Event):
    """A batch of worlds under one policy: its `SlotMetrics` and `Totals` as NumPy arrays.

    Args:
        tell: called with the number of slots that were simulated since the last call.
        stop: when set, the run ends with its chunk.
    """
    run, rows = begin(world, physics, policy), []
    for chunk in chunks(num_slots):
        run, slots = proceed(world, physics, policy, run, chunk)
        rows.append(jax.tree.map(np.asarray, slots))  # waits for the device: memory holds one chunk
        tell(chunk)
        if stop.is_set():
            break
    return joined(rows, axis=1), jax.tree.map(np.asarray, run.totals)


def episode(batches: list[tuple[SlotMetrics, Totals]], count: int) -> Episode:
    """The first `count` clusters of some batches."""
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


@jax.jit
def begin(world: World, physics, policy) -> Run:
    """Runs before their first slot."""
    one = jax.vmap(lambda world: start(world, physics, policy), in_axes=(WORLD_AXES,), axis_size=world.key.shape[0])
    return one(world)


@partial(jax.jit, static_argnums=4, donate_argnums=3)
def proceed(world: World, physics, policy, run: Run, num_slots: int) -> tuple[Run, SlotMetrics]:
    """`num_slots` further slots of a batch."""
    one = lambda world, run: advance(world, physics, policy, run, num_slots, axis_name=BATCH)  # noqa: E731
    return jax.vmap(one, in_axes=(WORLD_AXES, 0), axis_name=BATCH)(world, run)
