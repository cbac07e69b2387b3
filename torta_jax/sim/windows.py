"""The slot model's auction: each region's tasks bid for its lanes, in short windows, and losers try again.

A static assignment of a whole slot cannot know which lane will be free when, so the slot is cut into windows that
seldom bring more tasks than there are lanes. In each a lane is won by one task, and queues only what is better off
waiting for it than anywhere else; the rest is bound later, at last in the next slot. Winners of one window do not know
of each other's model loads.
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
"""In a window as many tasks of a region may bid as it has lanes, but no fewer than these; the first to come."""


def serve_in_windows(fleet: Fleet, scheduler, policy, servers: Servers, idle_s, batch: Batch, axis_name=None):
    """Match and start each region's tasks, window by window; arguments and result as in `service.serve`."""
    rows, regions = batch.mask.shape
    size = min(rows, max(servers.free_s[0].size, FEWEST))  # of the arrays; each region's own limit is no larger
    limit = jnp.maximum(fleet.cluster.lane_mask.sum(axis=(-2, -1)), FEWEST)
    length_s = fleet.physics.slot_s / WINDOWS
    window = (batch.ready_s / length_s).astype(jnp.int32)
    region = jnp.arange(regions)

    def match(k, carry):
        servers, idle_s, commitments, waiting, declined = carry
        here = waiting & jnp.where(k < WINDOWS, (window <= k) & ~declined, True)
        at = jnp.where(here, jnp.minimum(jnp.cumsum(here, axis=0) - 1, size), size)
        row = jnp.full((size + 1, regions), rows, jnp.int32)
        row = row.at[at, region].set(jnp.arange(rows, dtype=jnp.int32)[:, None])[:size]
        mask = (row < rows) & (jnp.arange(size)[:, None] < limit)
        bidders = batch.rows(jnp.minimum(row, rows - 1)).replace(mask=mask)
        forced, declines = bid(fleet, scheduler, policy, servers, bidders, k * length_s)
        bidders = bidders.replace(forced=forced)
        count = bidders.mask.sum(axis=0)
        servers, idle_s, got = serve(
            fleet, scheduler, policy, servers, idle_s, bidders, count, axis_name, first=k * size
        )
        winner = jnp.where(got.server >= 0, row, rows)
        write = lambda all_, some: all_.at[winner, region].set(some, mode="drop")  # noqa: E731
        commitments = jax.tree.map(write, commitments, got)
        # Who wants no lane keeps nobody from bidding; asked again at the end.
        declined = declined.at[jnp.where(mask & declines, row, rows), region].set(True, mode="drop")
        return servers, idle_s, commitments, waiting & (commitments.server < 0), declined

    start = (servers, idle_s, no_commitment(batch), batch.mask, jnp.zeros_like(batch.mask))
    return lax.fori_loop(0, WINDOWS + AFTERWARDS, match, start)[:3]


def bid(fleet: Fleet, scheduler, policy, servers: Servers, bidders: Batch, now_s, max_rounds=MAX_ROUNDS):
    """[C, R] int32 server that each task wins in the window that begins at `now_s`, -1 where none; and who wants none.

    A lane is worth what the policy's score says, in seconds. To go without costs a slot and the task's age, whatever
    its length: where lanes are scarce the short go first, and the long when they are old enough. A constant would
    starve the old, and with a very high one they would outbid each other without end.
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
        problem = assignment(value, jnp.ones(lanes * count, jnp.int32), outside, here, mask & jnp.isfinite(value))
        lane = auction.forward_only(problem, EPSILON_S / problem.span, max_rounds).server
        wins = (lane >= 0) & (lane < lanes * count)
        return jnp.where(wins, lane % count, -1).astype(jnp.int32), ~((value > outside[:, None]) & mask).any(axis=1)

    return jax.vmap(assign, in_axes=1, out_axes=1)(value, mask, outside, bidders.mask)
