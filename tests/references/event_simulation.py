"""A fleet as events in absolute time, in plain Python: what `torta_jax.sim` must agree with.

It is told what a policy decided (which servers are on, each task's region and server) and finds out everything
else: when data are ready, which model is in memory, how long a task runs, on which lane, when it starts and ends,
what a failure interrupts, which tasks are dropped, and how much energy it takes.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

COMPLETED, RUNNING, QUEUED, BUFFERED, DEADLINE, OVERFLOW, FAILURE = range(7)
ENDED = (COMPLETED, DEADLINE, OVERFLOW, FAILURE)
J_PER_KWH = 3.6e6
LEAST_RECENT = 1e-6  # decayed number of recent tasks below which a cache is cold


@dataclass(eq=False)
class Task:
    """A task from arrival to its end, clock times."""

    arrival: float
    deadline: float
    origin: int
    kind: int
    model: int
    prefill: float  # seconds of work left on the reference GPU
    decode: float
    embedding: list[float]
    region: int
    ready: float
    started: bool = False
    outcome: int = BUFFERED
    job: "Job | None" = None
    diary: list[tuple[str, float, float]] = field(default_factory=list)  # "network" or "inference", from when to when


@dataclass(eq=False)
class Job:
    """One attempt to run a task on a lane."""

    task: Task
    lane: "Lane"
    ready: float
    loading: float
    compute: float
    start: float = math.inf
    finish: float = math.inf


@dataclass(eq=False)
class Lane:
    """A queue served in order."""

    free: float = 0.0  # when it will have done all it was given
    queue: deque[Job] = field(default_factory=deque)
    current: Job | None = None
    history: list[Job] = field(default_factory=list)


@dataclass(eq=False)
class Server:
    """Lanes, memory and the cache of recent prompts."""

    lanes: list[Lane]
    on: bool = True
    warm: float = 0.0
    memory: dict[int, float] = field(default_factory=dict)  # model -> last use
    recent: list[tuple[float, list[float]]] = field(default_factory=list)

    def working(self, now: float) -> bool:
        return any(lane.free > now for lane in self.lanes)


class Fleet:
    """The simulation. Facts about the hardware are nested lists, named as in the cluster they come from."""

    def __init__(self, hardware: Any, model_gb, *, slot_s, gain, decay, lose_running, carry_tasks, region_tasks):
        self.hardware, self.model_gb = hardware, model_gb
        self.slot_s, self.gain, self.decay, self.lose_running = slot_s, gain, decay, lose_running
        self.carry_tasks, self.region_tasks = carry_tasks, region_tasks
        self.regions = len(hardware["lane_mask"])
        self.servers = [[Server(lanes) for lanes in self._lanes(r)] for r in range(self.regions)]
        self.alive = [True] * self.regions
        self.tasks: list[Task] = []
        self.efforts: list[tuple[str, float]] = []  # of this slot: what, and its seconds
        self.given: list[Task] = []  # a lane in this slot
        self.unmatched = 0  # tasks of this slot beyond the padding
        self.events: list[tuple[float, int, str, Lane, Job | None]] = []
        self.now, self.serial = 0.0, 0

    def _lanes(self, region):
        mask = self.hardware["lane_mask"][region]
        return [[Lane() for row in mask if row[s]] for s in range(len(mask[0]))]

    # One slot

    def run_slot(self, alive, arrivals, on, routes, decisions):
        """Run one slot.

        Args:
            alive: [R] regions that work.
            arrivals: the new `Task`s, in order.
            on: [R][S] servers that the policy has switched on in this slot.
            routes, decisions: of every task held in this slot in order of arrival, its region, and None or its server
                and that decision's place among those of the region; read only where there is something to decide.

        Returns:
            The tasks held in this slot, with their outcome.
        """
        end = self.now + self.slot_s
        self.efforts, self.given = [], []
        held = self.tasks + arrivals
        self._fail(alive)
        for task in held:
            if task.outcome == BUFFERED and task.deadline <= self.now:
                task.outcome = DEADLINE
        self._switch(alive, on)
        for task, region in zip(held, routes, strict=True):
            if task.outcome == BUFFERED:
                self._forward(task, region, may_move=task in arrivals or not alive[task.region])
        room, decided = [self.region_tasks] * self.regions, []
        for task, decision in zip(held, decisions, strict=True):
            if task.outcome == BUFFERED:
                room[task.region] -= 1
                if decision is not None:
                    assert room[task.region] >= 0, "matched beyond the padding"
                    decided.append((task, *decision))
        for task, server, _ in sorted(decided, key=lambda one: one[2]):
            self._commit(task, server)
            self.given.append(task)
        self.unmatched = sum(max(-left, 0) for left in room)
        self._run_events(end)
        self._overflow(held, end)
        self.now = end
        self.tasks = [task for task in held if task.outcome not in ENDED]
        return held

    def _fail(self, alive):
        for region in range(self.regions):
            if self.alive[region] and not alive[region]:
                for server in range(len(self.servers[region])):
                    self._interrupt(region, server)
        self.alive = list(alive)

    def _interrupt(self, region, index):
        server = self.servers[region][index]
        for task in self.tasks:
            job = task.job
            if job is None or job.lane not in server.lanes:
                continue
            task.job, task.outcome = None, BUFFERED
            if job.start < self.now:
                task.diary.append(("inference", job.start, self.now))
                if self.lose_running:
                    task.outcome = FAILURE
                    continue
                done = max(self.now - job.start - job.loading, 0.0) / job.compute
                task.prefill, task.decode = task.prefill * (1 - done), task.decode * (1 - done)
                serialise = self.hardware["migrate_out_s"][region][index]
                task.started, task.ready = True, self.now + serialise
                if task.deadline > self.now:  # else it is dropped, not moved
                    self.efforts.append(("serialise", serialise))
        for lane in server.lanes:
            if lane.current:
                lane.current.finish = self.now
            lane.queue.clear()
            lane.current, lane.free = None, self.now
        server.on = False

    def _switch(self, alive, on):
        for region in range(self.regions):
            for index, server in enumerate(self.servers[region]):
                wanted = on[region][index]
                assert not wanted or (alive[region] and server.lanes), "a server that cannot be on"
                if wanted and not server.on and not server.working(self.now):
                    warmup = self.hardware["warmup_s"][region][index]
                    self.efforts.append(("start a server", warmup))
                    server.warm = self.now + warmup
                    server.memory, server.recent = {}, []
                server.on = wanted

    def _forward(self, task, region, may_move):
        if not may_move:
            assert region == task.region, "a task moved that had to stay"
            return
        leaves = max(task.ready, self.now)
        task.ready = leaves + self.hardware["latency_s"][task.region][region]
        task.diary.append(("network", leaves, task.ready))
        task.region = region

    def _commit(self, task, index):
        server, facts = self.servers[task.region][index], self._facts(task.region, index)
        ready = max(task.ready, self.now)
        assert server.on, "matched to a server that is off"
        assert server.warm <= ready + 1e-9, "matched to a server that is not warm"
        assert self.model_gb[task.model] <= facts["memory_gb"], "matched to a server too small for the model"

        resident = task.model in server.memory
        saved = self.gain * self._hit(server, task, ready) if resident else 0.0
        compute = task.prefill * (1 - saved) / facts["prefill_speed"] + task.decode / facts["decode_speed"]
        compute /= self.hardware["kind_match"][task.kind][task.region][index]
        switch = 0.0 if resident else facts["switch_s"]
        resume = facts["migrate_in_s"] if task.started else 0.0
        if not resident:
            self.efforts.append(("load a model", switch))
        if task.started:
            self.efforts.append(("resume elsewhere", resume))
        self._load(server, task.model, ready, facts["memory_gb"])
        server.recent.append((ready, task.embedding))

        lane = min(server.lanes, key=lambda lane: lane.free)
        job = Job(task, lane, ready, switch + resume, compute)
        lane.queue.append(job)
        lane.free = max(lane.free, ready) + (job.loading + compute)
        task.job, task.outcome = job, QUEUED
        self._push(ready, "ready", lane)

    def _facts(self, region, index):
        names = ("memory_gb", "prefill_speed", "decode_speed", "switch_s", "migrate_in_s")
        return {name: self.hardware[name][region][index] for name in names}

    def _hit(self, server, task, ready):
        """Mean cosine with the server's recent tasks, the older the less."""
        weights = [math.exp(-self.decay * (ready - then)) for then, _ in server.recent]
        cosines = [math.fsum(a * b for a, b in zip(task.embedding, other, strict=True)) for _, other in server.recent]
        similarity = math.fsum(w * c for w, c in zip(weights, cosines, strict=True))
        return min(max(similarity / max(math.fsum(weights), LEAST_RECENT), 0.0), 1.0)

    def _load(self, server, model, ready, memory_gb):
        """Into memory; the least recently used go until it fits, of equals the last of the catalogue."""
        server.memory[model] = ready
        while math.fsum(self.model_gb[m] for m in server.memory) > memory_gb:
            others = [m for m in server.memory if m != model]
            del server.memory[min(others, key=lambda m: (server.memory[m], -m))]

    # Events

    def _push(self, time, kind, lane, job=None):
        self.serial += 1
        heapq.heappush(self.events, (time, self.serial, kind, lane, job))

    def _run_events(self, until):
        while self.events and self.events[0][0] <= until:
            time, _, kind, lane, job = heapq.heappop(self.events)
            if kind == "finish" and job and lane.current is job:
                job.finish = time
                job.task.diary.append(("inference", job.start, time))
                lane.current = None
            if lane.current is None and lane.queue and lane.queue[0].ready <= time:
                job = lane.current = lane.queue.popleft()
                job.start = time
                lane.history.append(job)
                self._push(time + (job.loading + job.compute), "finish", lane, job)

    def _overflow(self, held, end):
        """Outcomes at the end of the slot; if too many are left, the newest waiting go first, then the newest."""
        for task in held:
            if task.job and task.outcome in (QUEUED, RUNNING):
                done, begun = task.job.finish <= end, task.job.start <= end
                task.outcome = COMPLETED if done else RUNNING if begun else QUEUED
        left = [task for task in held if task.outcome not in ENDED]
        waiting = [task for task in left if task.outcome == BUFFERED]
        placed = [task for task in left if task.outcome != BUFFERED]
        for task in (placed + waiting)[self.carry_tasks :]:
            task.outcome = OVERFLOW

    # Energy of the slot that has just ended

    def usage(self, region, index):
        """Seconds busy (over lanes), on and warming, and kWh."""
        server, begin = self.servers[region][index], self.now - self.slot_s
        busy = last = 0.0
        for lane in server.lanes:
            for job in lane.history:
                busy += max(min(job.finish, self.now) - max(job.start, begin), 0.0)
                last = max(last, min(job.finish, self.now) - begin)
            last = self.slot_s if lane.queue else last
        warming = min(max(server.warm - begin, 0.0), self.slot_s) if server.on else 0.0
        on = self.slot_s - warming if server.on else last
        watts = {name: self.hardware[name][region][index] for name in ("idle_w", "active_w", "warming_w")}
        joule = on * watts["idle_w"] + warming * watts["warming_w"]
        joule += busy / max(len(server.lanes), 1) * (watts["active_w"] - watts["idle_w"])
        return busy, on, warming, joule / J_PER_KWH
