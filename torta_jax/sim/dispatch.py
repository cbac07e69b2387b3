"""Each task's region: a draw from the routing matrix, and rules that act task by task as they arrive."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from torta_jax.types import Cluster

FAR = 1e12
"""Cost of a region that is down."""

FULLEST = 1e6
"""Outstanding tasks per lane that count at most."""


class Rule(struct.PyTreeNode):
    """What a policy does with a task after the routing matrix has named its first choice.

    The load of a region is its outstanding tasks per switched-on lane, as a balancer that probes its replicas
    knows it. A first choice at or above `keep_below` is given up for the cheapest region: one with load below
    `room_below` if there is any, weighing latency and load.
    """

    keep_below: float = jnp.inf  # inf: the matrix decides alone, and no task looks at loads
    room_below: float = jnp.inf
    latency_weight: float = 1.0  # per second of one-way latency
    load_weight: float = 0.0  # per task and lane
    cyclic: bool = False  # go through the regions in turn instead of drawing one


class RegionLoad(struct.PyTreeNode):
    """Outstanding tasks and the lanes that work on them, per region [R]."""

    outstanding: jax.Array
    lanes: jax.Array
    service_s: jax.Array


def live_matrix(matrix: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The routing matrix [R, R] without dead regions; a row that loses everything, said in [R] bool, spreads evenly."""
    kept = jnp.where(alive, matrix, 0.0)
    total = kept.sum(axis=-1, keepdims=True)
    even = alive / jnp.maximum(alive.sum(), 1)
    return jnp.where(total > 1e-9, kept / jnp.maximum(total, 1e-9), even), total[:, 0] <= 1e-9


def first_choice(matrix: jax.Array, rule: Rule, source: jax.Array, draw: jax.Array, turn: jax.Array) -> jax.Array:
    """[P] region drawn from the row of each task's source [P], by its own uniform `draw` [P].

    Cyclic rules replace the draw by equal steps (`turn` [P] counts the decisions), which visits the live regions of
    an even row one after the other.
    """
    regions = matrix.shape[-1]
    steps = jnp.maximum((matrix > 0).sum(axis=-1), 1)[source]
    even = (turn % steps + 0.5) / steps
    draw = jnp.where(rule.cyclic, even.astype(draw.dtype), draw)
    edges = jnp.cumsum(matrix, axis=-1)
    edges = edges / edges[:, -1:]
    passed = (draw[:, None] >= edges[source]).sum(axis=-1)
    return jnp.minimum(passed, regions - 1).astype(jnp.int32)


def overflow(cluster: Cluster, rule: Rule, load: RegionLoad, alive, time_s, source, choice, mask, lost, axis_name=None):
    """[P] region of each task after the rule, tasks taken in order of `time_s` [P] where `mask` [P].

    The choice of an origin that has `lost` [R] all that its matrix names is nobody's: the rule never keeps it.
    Between two tasks a region finishes min(outstanding, lanes) / service_s tasks per second, in expectation; stepped
    backwards (implicit Euler), so that loads stay positive and in order however long the step.
    """
    used = jnp.isfinite(rule.keep_below)
    rows, looking = jnp.arange(mask.shape[0]), mask & used
    begin, end = jnp.where(looking, rows, rows.size).min(), jnp.where(looking, rows, -1).max() + 1
    if axis_name is not None:
        begin, end = lax.pmin(begin, axis_name), lax.pmax(end, axis_name)
    named = jnp.where(lost[source], -1, choice)
    lanes, ids = jnp.where(alive, load.lanes, 0.0), jnp.arange(load.lanes.shape[0])
    distance = rule.latency_weight * cluster.latency_s + jnp.where(alive, 0.0, FAR)

    # No gathers and no reading of what is written: both would be kernels, or copies, of their own in every round.
    def step(i, carry):
        outstanding, clock, result = carry
        valid, origin, first = mask[i], source[i], named[i]
        now = jnp.where(valid, jnp.maximum(time_s[i], clock), clock)
        turns = (now - clock) / load.service_s
        outstanding = jnp.maximum(outstanding - lanes * turns, outstanding / (1 + turns))
        per_lane = jnp.where(lanes > 0, outstanding / jnp.maximum(lanes, 1.0), jnp.inf)
        room = per_lane < rule.room_below
        full = ~room.any()
        cost = distance[origin] + rule.load_weight * jnp.minimum(per_lane, FULLEST)
        best = jnp.argmin(jnp.where(room | full, cost, jnp.inf))
        keep = (ids == first) & ((per_lane < rule.keep_below) | (alive & full))
        region = jnp.where(keep.any(), first, best).astype(choice.dtype)
        return outstanding + (valid & (ids == region)), now, lax.dynamic_update_index_in_dim(result, region, i, 0)

    start = (load.outstanding.astype(lanes.dtype), jnp.zeros((), lanes.dtype), choice)
    return jnp.where(looking, lax.fori_loop(begin, end, step, start)[2], choice)


def realised_shares(source, region, mask, previous: jax.Array) -> jax.Array:
    """[R, R] share of each origin's tasks sent to each region; an origin without tasks keeps its last row."""
    regions = previous.shape[-1]
    counts = jnp.zeros((regions, regions), jnp.int32).at[source, region].add(mask.astype(jnp.int32))
    total = counts.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.maximum(total, 1), previous)
