"""A hand-made cluster, and a workload's two functions compiled."""

from functools import partial

import jax
import jax.numpy as jnp

from torta_jax.types import Cluster

SLOT_S = 45.0
KEY = jax.random.key(7)


def small_cluster(offset_h=(-8.0, -6.0, 1.0), share=(0.5, 0.3, 0.2), speed=1.0, times=1) -> Cluster:
    """R = len(share) regions of 3 · `times` servers; the last third in every region is padding."""
    regions, servers, lanes = len(share), 3 * times, 2
    per_server = jnp.ones((regions, servers))
    exists = jnp.broadcast_to(jnp.repeat(jnp.array([True, True, False]), times), (regions, lanes, servers))
    return Cluster(
        latency_s=jnp.zeros((regions, regions)),
        bandwidth_gbps=jnp.full((regions, regions), 10.0),
        price_usd_per_kwh=jnp.full((regions, 24), 0.1),
        utc_offset_h=jnp.asarray(offset_h, float),
        demand_share=jnp.asarray(share, float),
        gpu=jnp.zeros((regions, servers), jnp.int32),
        lane_mask=exists,
        prefill_speed=speed * per_server * jnp.repeat(jnp.array([1.0, 0.5, 0.0]), times),
        decode_speed=speed * per_server * jnp.repeat(jnp.array([1.0, 0.25, 0.0]), times),
        kind_match=jnp.ones((3, regions, servers)),
        memory_gb=80 * per_server,
        warmup_s=60 * per_server,
        switch_s=per_server,
        migrate_out_s=per_server,
        migrate_in_s=per_server,
        idle_w=50 * per_server,
        active_w=400 * per_server,
        warming_w=100 * per_server,
    )


@partial(jax.jit, static_argnames=("num_slots", "slot_s"))
def prepare(workload, cluster, scenario, key=KEY, *, num_slots, slot_s=SLOT_S):
    return workload.prepare(cluster, scenario, key, num_slots, slot_s)


@partial(jax.jit, static_argnames="num_slots")
def draw(workload, prepared, num_slots, key=KEY):
    """Tasks of the first slots, [num_slots, ...]."""
    return jax.vmap(lambda slot: workload.arrivals(prepared, key, slot))(jnp.arange(num_slots))
