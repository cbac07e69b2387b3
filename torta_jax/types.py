"""Containers shared by every room of the house, and the letters of their axes.

R regions, S servers per region (padded, the minor axis), L lanes per server, N tasks arriving in a
slot (padded), P tasks held by a cluster (padded), K models, E embedding width, T slots, H hours of a
day (24). Seconds, watts, kWh, US dollars, GB, km. The batch of clusters is never written: `vmap` adds it.
Times inside a slot count from the start of that slot, which keeps them exact in float32.
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

KINDS = ("compute", "memory", "light")
"""Task kinds of Table I: compute-intensive, memory-intensive, lightweight."""


class Status(enum.IntEnum):
    """How a solver ended."""

    CONVERGED = 0
    BUDGET_SPENT = 1
    INFEASIBLE = 2
    NON_FINITE = 3  # what was given is not finite, or not allowed


class Phase(enum.IntEnum):
    """Where a task held by a cluster stands."""

    EMPTY = 0  # the slot of the pool is free
    BUFFERED = 1  # waits in its region for a server
    COMMITTED = 2  # queued or running on a lane, its start and finish are known


class Drop(enum.IntEnum):
    """Why a task was lost; each reason is counted apart."""

    DEADLINE = 0  # buffered at a slot's start, by a failure too, when its deadline had passed
    OVERFLOW = 1  # the padding (tasks per slot, tasks per cluster) was full
    FAILURE = 2  # was running when its region failed, and running tasks are lost


class Cluster(struct.PyTreeNode):
    """What stands still: regions, the network between them, servers, electricity prices.

    Padded servers have no lane. Speeds are relative to the reference GPU (A100).
    """

    latency_s: jax.Array  # [R, R] one-way, zero on the diagonal
    bandwidth_gbps: jax.Array  # [R, R] narrowest link of the shortest path; inf on the diagonal
    price_usd_per_kwh: jax.Array  # [R, H] by hour of the day, UTC
    utc_offset_h: jax.Array  # [R] local solar time minus UTC
    demand_share: jax.Array  # [R] share of all arrivals, sums to 1
    gpu: jax.Array  # [R, S] int32 index into the GPU catalogue (padding: 0)
    lane_mask: jax.Array  # [R, L, S] bool, execution lanes that exist
    prefill_speed: jax.Array  # [R, S]
    decode_speed: jax.Array  # [R, S]
    kind_match: jax.Array  # [3, R, S] in (0, 1]: speed factor of a task kind on this GPU type
    memory_gb: jax.Array  # [R, S]
    warmup_s: jax.Array  # [R, S] off -> on
    switch_s: jax.Array  # [R, S] loading a model that is not resident
    migrate_out_s: jax.Array  # [R, S] serialising a started task
    migrate_in_s: jax.Array  # [R, S] loading, deserialising and warming it up again
    idle_w: jax.Array  # [R, S] switched on, nothing running; as the others, of a GPU and its share of the machine
    active_w: jax.Array  # [R, S] every lane busy
    warming_w: jax.Array  # [R, S]

    @property
    def server_mask(self) -> jax.Array:
        """[R, S] bool: servers that exist."""
        return self.lane_mask.any(axis=-2)

    @property
    def num_regions(self) -> int:
        return self.latency_s.shape[-1]


class Tasks(struct.PyTreeNode):
    """The arrivals of one slot, in order of arrival; rows beyond the last task are masked."""

    mask: jax.Array  # [N] bool
    arrival_s: jax.Array  # [N] in [0, slot), sorted over the unmasked rows
    origin: jax.Array  # [N] int32 region
    kind: jax.Array  # [N] int32 index into KINDS
    model: jax.Array  # [N] int32
    prefill_s: jax.Array  # [N] prompt processing on the reference GPU
    decode_s: jax.Array  # [N] token generation on the reference GPU
    patience_s: jax.Array  # [N] deadline minus arrival
    draw: jax.Array  # [N] uniform in [0, 1): the task's own luck in a random routing
    embedding: jax.Array  # [N, E] unit vectors (E may be 0)
    overflow: jax.Array  # [R, 3] int32 tasks beyond the padding, by origin and kind


class Scenario(struct.PyTreeNode):
    """What happens to the world, whatever the policy: one row per slot."""

    rate_factor: jax.Array  # [T, R] multiplies the arrival rate (surge)
    alive: jax.Array  # [T, R] bool, False while a region is down
    price_factor: jax.Array  # [T, R] multiplies the electricity price (price shock)


def numbers(tree: Any) -> Any:
    """The tree with Python and NumPy numbers as arrays of JAX's default types, so that equal shapes share a compile."""

    def array(leaf):
        if isinstance(leaf, bool | np.bool_):
            return jnp.asarray(leaf)
        if isinstance(leaf, int | float):
            return jnp.asarray(leaf, float)
        return jnp.asarray(leaf)

    return jax.tree.map(array, tree)
