"""One region, whose tasks are matched to servers in one slot."""

import jax
import jax.numpy as jnp

from tests.references.clusters import reference_cluster
from torta_jax.evaluate.rollout import numbers
from torta_jax.sim.matching import match
from torta_jax.sim.service import Fleet
from torta_jax.sim.state import Physics, empty_pool, initial_state
from torta_jax.types import Phase

ROWS, SERVERS = 24, 2
"""Padding, so that most calls share a program."""


@jax.jit(static_argnames="information")
def _match(cluster, policy, pool, information):
    physics = numbers(Physics(carry_tasks=ROWS, region_tasks=ROWS, information=information))
    servers = initial_state(cluster, physics, policy, 1, 0).servers
    fleet = Fleet(cluster, jnp.ones(1), physics, jnp.full(1, 10.0))
    pool, _, _, order, _ = match(fleet, policy, policy.init(cluster), servers, pool)
    return pool, order


def decided(tasks, policy, information, speeds=(1.0,), servers=SERVERS):
    """What becomes of (arrival, deadline, work) tasks, at most ROWS, given in order of arrival.

    Returns a list of (server, start), None for a task that stays in the buffer; and their places among the decisions.
    """
    real = jnp.arange(servers) < len(speeds)
    cluster = reference_cluster(1, servers)
    speed = jnp.ones((1, servers)).at[0, : len(speeds)].set(jnp.asarray(speeds))
    cluster = cluster.replace(decode_speed=speed, lane_mask=cluster.lane_mask & real)
    arrival, deadline, work = (
        jnp.pad(jnp.asarray(column, float), (0, ROWS - len(tasks))) for column in zip(*tasks, strict=True)
    )
    there = jnp.arange(ROWS) < len(tasks)
    pool = empty_pool(ROWS, 0).replace(
        phase=jnp.where(there, int(Phase.BUFFERED), int(Phase.EMPTY)).astype(jnp.int32),
        arrival_s=arrival,
        ready_s=arrival,
        deadline_s=deadline,
        decode_s=work,
    )
    pool, order = _match(cluster, numbers(policy), pool, information)
    rows = zip(pool.phase.tolist(), pool.server.tolist(), pool.start_s.tolist(), strict=True)
    found = [(server, start) if phase == Phase.COMMITTED else None for phase, server, start in rows]
    return found[: len(tasks)], order.tolist()[: len(tasks)]
