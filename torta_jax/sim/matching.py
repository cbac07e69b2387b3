"""Which task gets which server, under the two information models.

`online`: a task is decided when it arrives and knows nothing of later ones; buffered tasks are decided at the start
of the slot. `slot`: the slot's tasks are known when it starts (the paper's Algorithm 1). A policy may then decide them
by urgency and size, each lane serving what it was given in order of arrival, or have them bid for lanes (`windows`).
"""

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.sim.pool import pack, settle
from torta_jax.sim.service import Batch, Fleet, begin, serve
from torta_jax.sim.state import FAR_S, Pool, Servers
from torta_jax.sim.windows import serve_in_windows


def match(fleet: Fleet, scheduler, policy, servers: Servers, pool: Pool, axis_name=None):
    """Match the buffered tasks of the pool.

    Returns the pool, the servers, idle lane time [R, L, S], each task's place among the decisions of its region [P]
    int32 (-1 where it got no lane), and how many found no row in their region's batch [] int32.
    """
    batch, count, place = pack(pool, servers.active.shape[0], fleet.physics)
    servers, idle_s = begin(servers, fleet.physics.slot_s)

    def one_by_one(batch: Batch):
        return serve(fleet, scheduler, policy, servers, idle_s, batch, count, axis_name)

    def in_order():
        forced = decide_in_order(fleet, scheduler, policy, servers, idle_s, batch, count, axis_name)
        return one_by_one(batch.replace(forced=forced))

    def in_windows():
        return serve_in_windows(fleet, scheduler, policy, servers, idle_s, batch, axis_name)

    if fleet.physics.information == "slot":
        servers, idle_s, commitment = lax.cond(jnp.asarray(scheduler.by_auction), in_windows, in_order)
    else:
        servers, idle_s, commitment = one_by_one(batch)
    pool, order = settle(pool, commitment, place)
    unmatched = jnp.maximum(count - fleet.physics.region_tasks, 0).sum()
    return pool, servers, idle_s, order, unmatched


def decide_in_order(fleet, scheduler, policy, servers, idle_s, batch: Batch, count, axis_name) -> jax.Array:
    """[M, R] servers chosen in the policy's order, before the lanes serve in order of arrival.

    By urgency: earliest deadline first, then the largest (Algorithm 1). An urgent task may arrive late in the slot; so
    that nobody queues behind it before it is there, queues are then reckoned as work alone.
    """
    urgent = jnp.asarray(scheduler.by_urgency)
    rows = jnp.broadcast_to(jnp.arange(batch.mask.shape[0])[:, None], batch.mask.shape)
    first = jnp.where(urgent, batch.deadline_s, 0.0) + jnp.where(batch.mask, 0.0, FAR_S)
    second = jnp.where(urgent, -(batch.prefill_s + batch.decode_s), 0.0)
    order = lax.sort((first, second, rows), dimension=0, num_keys=2)[2]
    sorted_ = batch.rows(order)
    _, _, commitment = serve(fleet, scheduler, policy, servers, idle_s, sorted_, count, axis_name, as_work=urgent)
    region = jnp.arange(order.shape[1])
    return jnp.zeros_like(batch.forced).at[order, region].set(commitment.server, unique_indices=True)
