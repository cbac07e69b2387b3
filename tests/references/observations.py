"""What a policy sees of three regions of four servers, one lane each, 15 s per task: 12 tasks per slot and region."""

import jax.numpy as jnp

from tests.references.clusters import reference_cluster
from torta_jax.schedulers.rules import Outlook
from torta_jax.sim.observe import Observation

REGIONS, SERVERS, SLOT_S = 3, 4, 45.0


def see(
    slot=5,
    arrivals=(4.0, 8.0, 6.0),
    alive=(True, True, True),
    price=(0.1, 0.2, 0.3),
    shares=None,
    matrix=None,
    busy=None,
):
    even = jnp.full((REGIONS, REGIONS), 1 / REGIONS)
    zero = jnp.zeros(REGIONS)
    return Observation(
        slot=jnp.int32(slot),
        slot_s=jnp.asarray(SLOT_S),
        cluster=reference_cluster(REGIONS, SERVERS),
        alive=jnp.asarray(alive),
        price_usd_per_kwh=jnp.asarray(price),
        arrivals=jnp.asarray(arrivals),
        shares=even if shares is None else shares,
        matrix=even if matrix is None else matrix,
        buffered=zero,
        waiting=zero,
        outstanding=zero,
        utilisation=zero,
        server_utilisation=jnp.zeros((REGIONS, SERVERS)) if busy is None else busy,
        servers_on=zero + SERVERS,
        service_s=zero + 15.0,
    )


def outlook(level, trend=0.0):
    everywhere = lambda number: jnp.broadcast_to(jnp.asarray(number), (REGIONS,))  # noqa: E731
    return Outlook(everywhere(level), everywhere(trend), jnp.zeros((REGIONS, SERVERS)))
