"""The queueing model that the peers share: regions of FIFO lanes, one task after the other, in plain Python.

A task is served where it arrives, by the server that finishes it first. A server has one lane; a model that is not
in its memory is loaded first, and the least recently used ones leave until it fits. This is what `torta_jax` does
with every server on, no routing and no prefix cache, without its energy, activation, buffers, failures and metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from torta_jax.types import Cluster, Tasks


@dataclass(frozen=True, slots=True)
class Task:
    """A task as `torta_jax` drew it; times in seconds since the start."""

    arrival_s: float
    region: int
    kind: int
    model: int
    prefill_s: float
    decode_s: float


@dataclass(slots=True)
class Server:
    """One lane and the models in its memory, the least recently used first."""

    prefill_speed: float
    decode_speed: float
    match: list[float]  # by kind of task
    switch_s: float
    memory_gb: float
    free_s: float = 0.0
    resident: dict[int, float] = field(default_factory=dict)  # GB by model

    def lane_s(self, task: Task) -> float:
        """How long the task would hold the lane, loading its model included."""
        compute_s = (task.prefill_s / self.prefill_speed + task.decode_s / self.decode_speed) / self.match[task.kind]
        return compute_s if task.model in self.resident else compute_s + self.switch_s

    def finish_s(self, task: Task) -> float:
        """When it would have finished the task."""
        return max(self.free_s, task.arrival_s) + self.lane_s(task)

    def take(self, task: Task, model_gb: Sequence[float]) -> None:
        """Queue the task and load its model."""
        self.free_s = self.finish_s(task)
        self.resident.pop(task.model, None)
        self.resident[task.model] = model_gb[task.model]
        while sum(self.resident.values()) > self.memory_gb:
            del self.resident[next(iter(self.resident))]


Fleet = list[list[Server]]
"""The servers of each region."""


def fleet(cluster: Cluster) -> Fleet:
    """The cluster's servers, all on, idle and without a model."""
    names = ("prefill_speed", "decode_speed", "switch_s", "memory_gb")
    facts = {name: np.asarray(getattr(cluster, name), float) for name in names}
    match, mask = np.asarray(cluster.kind_match, float), np.asarray(cluster.server_mask)

    def server(*at: int) -> Server:
        return Server(**{name: fact[at].item() for name, fact in facts.items()}, match=match[:, *at].tolist())

    return [[server(region, place) for place in np.flatnonzero(row).tolist()] for region, row in enumerate(mask)]


def tasks(slots: Tasks, slot_s: float) -> list[Task]:
    """The tasks of a stack of slots [T, N], in order of arrival."""
    slot, row = np.nonzero(np.asarray(slots.mask))
    arrival_s = slot * slot_s + np.asarray(slots.arrival_s, float)[slot, row]
    names = ("origin", "kind", "model", "prefill_s", "decode_s")
    columns = (np.asarray(getattr(slots, name))[slot, row].tolist() for name in names)
    return [Task(*values) for values in zip(arrival_s.tolist(), *columns, strict=True)]


def best(servers: list[Server], task: Task, model_gb: Sequence[float]) -> Server:
    """The server that can hold the task's model and finishes it first; the first of equals."""
    room = [server for server in servers if server.memory_gb >= model_gb[task.model]]
    return min(room, key=lambda server: server.finish_s(task))


def run(servers: Fleet, arrivals: list[Task], model_gb: Sequence[float]) -> list[float]:
    """When each task finishes, by one pass over the arrivals: no event list, as fast as plain Python gets."""
    finish_s = []
    for task in arrivals:
        server = best(servers[task.region], task, model_gb)
        server.take(task, model_gb)
        finish_s.append(server.free_s)
    return finish_s
