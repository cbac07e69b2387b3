"""What a simulated cluster remembers from slot to slot, and the numbers its physics runs on."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.types import Cluster, Phase

NEVER_S = -1e9
"""Last use of a model that is not resident."""

RESIDENT_S = -1e8
"""A model last used after this time is resident."""

FAR_S = 1e9
"""Later than anything that happens."""

CALM_SLOTS = 1.75
"""Slots of arrivals that wait at once where neither a surge nor a failure is to come: SkyLB's in the default world."""


class Physics(struct.PyTreeNode):
    """Numbers (traced, so a sweep over them is one `vmap`) and sizes (static) of the slot physics."""

    slot_s: float = 45.0
    prefix_gain: float = 0.5  # share of the prefill that a perfect prefix-cache hit saves
    prefix_decay_per_s: float = 1 / 45  # lambda of Eq 10
    service_guess_s: float = 15.0  # lane time per task before any was measured
    service_weight: float = 0.2  # of the newest slot in the measured lane time
    lose_running: bool = False  # running tasks of a failing region are lost instead of migrated
    information: str = struct.field(pytree_node=False, default="online")  # or "slot"
    carry_tasks: int = struct.field(pytree_node=False, default=1024)  # tasks kept from slot to slot
    region_tasks: int = struct.field(pytree_node=False, default=448)  # tasks matched per region and slot

    def sized(self, cluster: Cluster, max_tasks: int, waiting_slots: float = CALM_SLOTS) -> "Physics":
        """The same physics with room for a fleet and `max_tasks` arrivals per slot; shapes alone decide.

        Kept from slot to slot: what runs and queues on the lanes, and the arrivals of `waiting_slots` slots. Matched
        per region: 1.7 times its even share of the latter; more than that wait a slot.
        """
        lanes, regions = math.prod(cluster.lane_mask.shape[-3:]), cluster.num_regions
        waiting = waiting_slots * max_tasks
        carry, region = 1.25 * lanes + waiting, 1.7 * waiting / regions
        return self.replace(carry_tasks=_padded(carry), region_tasks=_padded(min(region, max_tasks + carry)))


def _padded(rows: float) -> int:
    """Whole blocks of 32, at least two."""
    return max(64, 32 * -(-int(rows) // 32))


class Pool(struct.PyTreeNode):
    """The tasks in a cluster, in order of arrival. Times count from the start of the current slot."""

    phase: jax.Array  # [P] int32, types.Phase
    origin: jax.Array  # [P] int32
    region: jax.Array  # [P] int32, where the task waits or runs
    kind: jax.Array  # [P] int32
    model: jax.Array  # [P] int32
    prefill_s: jax.Array  # [P] work left, on the reference GPU
    decode_s: jax.Array  # [P]
    arrival_s: jax.Array  # [P]
    deadline_s: jax.Array  # [P]
    ready_s: jax.Array  # [P] when its data has reached the region
    network_s: jax.Array  # [P] spent on the way so far
    inference_s: jax.Array  # [P] lane time spent before a migration
    draw: jax.Array  # [P] uniform in [0, 1)
    embedding: jax.Array  # [P, E]
    started: jax.Array  # [P] bool, has run before and was moved
    server: jax.Array  # [P] int32
    start_s: jax.Array  # [P]
    finish_s: jax.Array  # [P]
    loading_s: jax.Array  # [P] part of the lane time that loads a model or a migrated task

    def shifted(self, by_s: jax.Array | float) -> "Pool":
        """The same tasks with the clock's zero moved `by_s` seconds later."""
        names = ("arrival_s", "deadline_s", "ready_s", "start_s", "finish_s")
        return self.replace(**{name: getattr(self, name) - by_s for name in names})


class Servers(struct.PyTreeNode):
    """The servers' state. Off: not active and idle; draining: not active and busy; warming: warm later."""

    active: jax.Array  # [R, S] bool, takes tasks once warm
    warm_s: jax.Array  # [R, S] when it is (or was) warm
    free_s: jax.Array  # [R, L, S] when the lane has finished all it was given
    spill_s: jax.Array  # [R, L, S] idle time already known to follow the slot's end
    used_s: jax.Array  # [R, K, S] last use of a model, NEVER_S where it is not resident
    heat: jax.Array  # [R, K, S] decayed count of recent tasks per model (Eq 10)
    recent: jax.Array  # [R, S] decayed count of recent tasks of any model
    prefix: jax.Array  # [R, E, S] decayed sum of recent tasks' embeddings (Eq 10)
    utilisation: jax.Array  # [R, S] busy share of its switched-on lane time in the last slot
    turn: jax.Array  # [R] int32, the server after the one served last (round robin)

    def shifted(self, by_s: jax.Array | float) -> "Servers":
        """The same servers with the clock's zero moved `by_s` seconds later."""
        used_s = jnp.where(self.used_s > RESIDENT_S, self.used_s - by_s, NEVER_S)
        return self.replace(warm_s=self.warm_s - by_s, free_s=self.free_s - by_s, used_s=used_s)

    def idle_from_s(self, cluster: Cluster) -> jax.Array:
        """[R, S] when a server has finished all it was given, and is warm."""
        return jnp.maximum(jnp.where(cluster.lane_mask, self.free_s, -FAR_S).max(axis=-2), self.warm_s)

    def faded(self, physics: Physics, by_s: jax.Array | float) -> "Servers":
        """The same servers with their recent past decayed over `by_s` seconds (Eq 10)."""
        fade = jnp.exp(-physics.prefix_decay_per_s * by_s)
        return self.replace(heat=self.heat * fade, recent=self.recent * fade, prefix=self.prefix * fade)


class Observed(struct.PyTreeNode):
    """Statistics of the past that policies may see."""

    arrivals: jax.Array  # [R] by origin, last slot
    shares: jax.Array  # [R, R] realised routing of the last slot, row-stochastic
    service_s: jax.Array  # [R] measured lane time per task
    kind_share: jax.Array  # [R, 3] of the tasks sent to a region
    cooling_s: jax.Array  # [R] since a region last needed all the servers it has on


class State(struct.PyTreeNode):
    """Everything a cluster carries from slot to slot; `policy` is the scheduler's own."""

    slot: jax.Array  # [] int32
    pool: Pool  # [carry_tasks] rows
    servers: Servers
    observed: Observed
    alive: jax.Array  # [R] bool
    matrix: jax.Array  # [R, R] routing in force in the last slot
    dispatched: jax.Array  # [] int32, routing decisions so far (round robin)
    policy: Any


def empty_pool(rows: int, embedding_dim: int) -> Pool:
    """A pool of `rows` free rows."""
    whole, real = jnp.zeros(rows, jnp.int32), jnp.zeros(rows)
    return Pool(
        phase=jnp.full(rows, jnp.int32(Phase.EMPTY)),
        origin=whole,
        region=whole,
        kind=whole,
        model=whole,
        prefill_s=real,
        decode_s=real,
        arrival_s=real,
        deadline_s=real,
        ready_s=real,
        network_s=real,
        inference_s=real,
        draw=real,
        embedding=jnp.zeros((rows, embedding_dim)),
        started=jnp.zeros(rows, bool),
        server=whole,
        start_s=real,
        finish_s=real,
        loading_s=real,
    )


def initial_state(cluster: Cluster, physics: Physics, scheduler, num_models: int, embedding_dim: int) -> State:
    """All servers on, warm, idle and without a model; nothing observed yet."""
    mask = cluster.server_mask
    (regions, servers), lanes = mask.shape, cluster.lane_mask.shape[-2]
    lane, model = jnp.zeros((regions, lanes, servers)), jnp.zeros((regions, num_models, servers))
    return State(
        slot=jnp.int32(0),
        pool=empty_pool(physics.carry_tasks, embedding_dim),
        servers=Servers(
            active=mask,
            warm_s=jnp.zeros((regions, servers)),
            free_s=lane,
            spill_s=lane,
            used_s=jnp.full_like(model, NEVER_S),
            heat=model,
            recent=jnp.zeros((regions, servers)),
            prefix=jnp.zeros((regions, embedding_dim, servers)),
            utilisation=jnp.zeros((regions, servers)),
            turn=jnp.zeros(regions, jnp.int32),
        ),
        observed=Observed(
            arrivals=jnp.zeros(regions),
            shares=jnp.eye(regions),
            service_s=jnp.full(regions, physics.service_guess_s, float),
            kind_share=jnp.full((regions, 3), 1 / 3, float),
            cooling_s=jnp.zeros(regions),
        ),
        alive=jnp.ones(regions, bool),
        matrix=jnp.eye(regions),
        dispatched=jnp.int32(0),
        policy=scheduler.init(cluster),
    )
