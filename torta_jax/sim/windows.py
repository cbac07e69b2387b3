"""The slot model's auction: each region's tasks bid for its lanes, in short windows, and losers try again.

A static assignment of a whole slot cannot know which lane will be free when, so the slot is cut into windows whose
tasks are fewer than the lanes. In each a lane takes one task at most, and queues only what is better off waiting for it
than anywhere else; the rest is bound later, at last in the next slot.
"""

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.sim.service import Batch, Fleet, allowed, no_commitment, offers, serve
from torta_jax.sim.state import FAR_S, Servers
from torta_jax.solvers import auction
from torta_jax.solvers.matching import assignment

WINDOWS = 8
"""Of equal length, in a slot."""

AFTERWARDS = 1
"""Further matchings at the slot's end."""

EPSILON_S = 1.0
"""Step of a bid."""

MAX_ROUNDS = 8
"""Of bidding, in a window; who is still without a lane then tries again in the next."""

FEWEST = 16
"""Tasks per region that may bid in a window, the first to come; where there are more lanes, as many as those."""


def serve_in_windows(fleet: Fleet, scheduler, policy, servers: Servers, idle_s, batch: Batch, axis_name=None):
    """Match and start each region's tasks, window by window; arguments and result as in `service.serve`."""
    rows, regions = batch.mask.shape
    size = min(rows, max(servers.free_s[0].size, FEWEST))
    length_s = fleet.physics.slot_s / WINDOWS
    window = (batch.ready_s / length_s).astype(jnp.int32)
    region = jnp.arange(regions)

    def match(k, carry):
        servers, idle_s, commitments, waiting = carry
        here = waiting & ((window <= k) | (k >= WINDOWS))
        at = jnp.where(here, jnp.minimum(jnp.cumsum(here, axis=0) - 1, size), size)
        row = jnp.full((size + 1, regions), rows, jnp.int32)
        row = row.at[at, region].set(jnp.arange(rows, dtype=jnp.int32)[:, None])[:size]
        bidders = batch.rows(jnp.minimum(row, rows - 1)).replace(mask=row < rows)
        bidders = bidders.replace(forced=bid(fleet, scheduler, policy, servers, bidders, k * length_s))
        count = bidders.mask.sum(axis=0)
        servers, idle_s, got = serve(
            fleet, scheduler, policy, servers, idle_s, bidders, count, axis_name, first=k * size
        )
        winner = jnp.where(got.server >= 0, row, rows)
        write = lambda all_, some: all_.at[winner, region].set(some, mode="drop")  # noqa: E731
        commitments = jax.tree.map(write, commitments, got)
        return servers, idle_s, commitments, waiting & (commitments.server < 0)

    start = (servers, idle_s, no_commitment(batch), batch.mask)
    return lax.fori_loop(0, WINDOWS + AFTERWARDS, match, start)[:3]


def bid(fleet: Fleet, scheduler, policy, servers: Servers, bidders: Batch, now_s, max_rounds=MAX_ROUNDS):
    """[C, R] int32 server that each task wins in the window that begins at `now_s`, -1 where none.

    A lane is worth what the policy's score says, in seconds. To go without costs a slot, and the more the older a task
    is: a constant would starve the old, and with a very high one they would outbid each other without end.
    """
    free = jnp.sort(jnp.where(fleet.cluster.lane_mask, servers.free_s, FAR_S), axis=-2)  # [R, L, S]
    lanes, count = free.shape[-2:]

    def worth(task: Batch):
        offer = offers(fleet, servers, task)

        def of_lane(free):
            each = offer.replace(wait_s=jnp.maximum(free - task.ready_s[:, None], 0.0))
            return scheduler.affinity(policy, each), allowed(scheduler, each) & (free < FAR_S)

        return jax.vmap(of_lane, in_axes=-2, out_axes=-2)(free)

    value, mask = (each.reshape(*each.shape[:2], -1) for each in jax.vmap(worth)(bidders))  # [C, R, L·S]
    outside = -fleet.physics.slot_s - jnp.maximum(jnp.maximum(bidders.ready_s, now_s) - bidders.arrival_s, 0.0)

    def assign(value, mask, outside, here):
        value = jnp.maximum(value, outside[:, None])
        problem = assignment(value, jnp.ones(lanes * count, jnp.int32), outside, here, mask)
        lane = auction.forward_only(problem, EPSILON_S / problem.span, max_rounds).server
        return jnp.where((lane >= 0) & (lane < lanes * count), lane % count, -1)

    return jax.vmap(assign, in_axes=1, out_axes=1)(value, mask, outside, bidders.mask).astype(jnp.int32)
