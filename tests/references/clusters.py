"""Clusters simple enough to reckon by hand."""

import jax.numpy as jnp

from torta_jax.types import Cluster


def reference_cluster(regions: int, servers: int, lanes: int = 1) -> Cluster:
    """Reference GPUs everywhere, neighbours on a line 10 ms apart, no delay for anything else."""
    one, zero, place = jnp.ones((regions, servers)), jnp.zeros((regions, servers)), jnp.arange(regions)
    apart = jnp.abs(place[:, None] - place)
    return Cluster(
        latency_s=0.01 * apart,
        bandwidth_gbps=jnp.where(apart > 0, 10.0, jnp.inf),
        price_usd_per_kwh=jnp.full((regions, 24), 0.1),
        utc_offset_h=jnp.zeros(regions),
        demand_share=jnp.full(regions, 1 / regions),
        gpu=jnp.zeros((regions, servers), jnp.int32),
        lane_mask=jnp.ones((regions, lanes, servers), bool),
        prefill_speed=one,
        decode_speed=one,
        kind_match=jnp.ones((3, regions, servers)),
        memory_gb=80 * one,
        warmup_s=zero,
        switch_s=zero,
        migrate_out_s=zero,
        migrate_in_s=zero,
        idle_w=100 * one,
        active_w=400 * one,
        warming_w=150 * one,
    )
