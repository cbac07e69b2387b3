"""How well a server suits a task: Eq 7-10 and what else a policy may weigh."""

import jax
import jax.numpy as jnp
from flax import struct


class Offer(struct.PyTreeNode):
    """What every server of every region offers the one task its region is deciding on.

    Times are exact: a server that takes the task now starts and finishes it as said, unless its region fails.
    """

    usable: jax.Array  # [R, S] bool: on, warm, healthy, and the model fits its memory
    wait_s: jax.Array  # [R, S] from the task's readiness to its start
    loading_s: jax.Array  # [R, S] model switch and migration stages before the first token
    service_s: jax.Array  # [R, S] lane time, loading included
    resident: jax.Array  # [R, S] bool, the model is in memory
    hardware: jax.Array  # [R, S] Comp_hw of Eq 8, in [0, 1]
    heat: jax.Array  # [R, S] decayed count of recent tasks of the same model (Eq 10)
    similarity: jax.Array  # [R, S] decayed sum of cosines with recent tasks (Eq 10)
    prefix_hit: jax.Array  # [R, S] in [0, 1], their decayed mean; 0 where the model is not resident
    utilisation: jax.Array  # [R, S] share of its lanes that are busy when the task is ready
    queue: jax.Array  # [R, S] waiting work in tasks of average length, per lane
    idle_s: jax.Array  # [R, S] since the server last finished everything or was warm, 0 while busy
    turn: jax.Array  # [R, S] int32, 0 for the server whose turn it is, then 1, 2, …


class Weights(struct.PyTreeNode):
    """A score linear in what servers offer; the highest wins. Eq 7 is `hardware`, `load` and the locality pair."""

    hardware: float = 0.0
    load: float = 0.0  # Comp_load of Eq 9
    model_locality: float = 0.0  # w_m of Eq 10
    embedding_locality: float = 0.0  # w_c of Eq 10
    wait: float = 0.0  # per second
    service: float = 0.0  # per second
    idle: float = 0.0  # 1 if the task would start at once
    idle_time: float = 0.0  # per second
    resident: float = 0.0
    prefix_hit: float = 0.0
    turn: float = 0.0  # per place in the cyclic order


def load_factor(utilisation: jax.Array, queue: jax.Array) -> jax.Array:
    """Comp_load of Eq 9, exp(-(utilisation + queue) / capacity), both already per lane."""
    return jnp.exp(-(utilisation + queue))


def score(weights: Weights, offer: Offer) -> jax.Array:
    """[R, S] weighted sum of the offer (Eq 7)."""
    return (
        weights.hardware * offer.hardware
        + weights.load * load_factor(offer.utilisation, offer.queue)
        + weights.model_locality * offer.heat
        + weights.embedding_locality * offer.similarity
        - weights.wait * offer.wait_s
        - weights.service * offer.service_s
        + weights.idle * (offer.wait_s <= 0)
        + weights.idle_time * offer.idle_s
        + weights.resident * offer.resident
        + weights.prefix_hit * offer.prefix_hit
        - weights.turn * offer.turn
    )
