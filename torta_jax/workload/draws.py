"""Random numbers of tasks from few random words.

Every number is a function of (key, stream, slot, task): more padding, a longer horizon or another batch
change none of them. A word carries 32 bits; where 16 are enough it serves two purposes.
"""

import jax
import jax.numpy as jnp

from torta_jax.workload.models import zipf_cumulative

NOISE, TOPICS, TASKS, OVERFLOW = range(4)
"""Streams: no two purposes share a key."""


def fold(key: jax.Array, *numbers: int | jax.Array) -> jax.Array:
    """The key for a purpose, a slot and so on."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def words(key: jax.Array, num_words: int, num_tasks: int) -> jax.Array:
    """[W, N] uint32. Each row has its own key, so that the words of a task do not depend on W or N."""
    rows = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_words))
    return jax.vmap(lambda row: jax.random.bits(row, (num_tasks,), jnp.uint32))(rows)


def unit(word: jax.Array) -> jax.Array:
    """Uniform in (0, 1) on the centres of 2²³ cells, exact in float32: neither 0 nor 1, symmetric."""
    return ((word >> 9).astype(float) + 0.5) * 2.0**-23


def halves(word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two independent uniforms on the centres of 2¹⁶ cells of (0, 1)."""
    pair = jnp.stack([word >> 16, word & 0xFFFF]).astype(float)
    high, low = (pair + 0.5) * 2.0**-16
    return high, low


def between(low: jax.Array, high: jax.Array, u: jax.Array) -> jax.Array:
    """Uniform in [low, high]."""
    return low * (1 - u) + high * u


def category(cumulative: jax.Array, u: jax.Array) -> jax.Array:
    """[N] int32 drawn by inverse CDF; a category of weight zero is never drawn.

    Args:
        cumulative: [C] running sum of the weights, not normalised, not decreasing.
        u: [N] uniform in (0, 1).
    """
    return (cumulative[:-1, None] <= u * cumulative[-1]).sum(axis=0, dtype=jnp.int32)


def running_sum(weights: jax.Array) -> jax.Array:
    """[..., C] cumulative sum from left to right, so that a zero weight leaves it exactly level."""
    start = jnp.zeros(weights.shape[:-1], weights.dtype)
    _, total = jax.lax.scan(lambda sum, weight: (sum + weight,) * 2, start, jnp.moveaxis(weights, -1, 0))
    return jnp.moveaxis(total, 0, -1)


def topics(key: jax.Array, num_models: int, num_regions: int, dim: int) -> jax.Array:
    """[K, R, E] unit vectors: what a model is asked about, coloured by the region that asks."""
    by_model = jax.random.normal(fold(key, TOPICS, 0), (num_models, 1, dim))
    by_region = jax.random.normal(fold(key, TOPICS, 1), (1, num_regions, dim))
    return normalised(by_model + by_region)


def embed(
    topic: jax.Array, model: jax.Array, origin: jax.Array, spread: jax.Array, word: jax.Array
) -> jax.Array:
    """[N, E] unit vectors around the topic of (model, origin).

    Args:
        topic: [K, R, E].
        model, origin: [N] int32.
        spread: expected length of the noise against the topic's 1. The noise is uniform per coordinate, from
            one byte each: only its direction and scale matter here.
        word: [ceil(E / 4), N] uint32.
    """
    num_regions, dim = topic.shape[-2:]
    if dim == 0:
        return jnp.zeros((*model.shape, 0))
    shift = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None]
    byte = ((word[:, None, :] >> shift) & 0xFF).reshape(-1, word.shape[-1])[:dim].T
    noise = (byte.astype(float) - 127.5) * (jnp.sqrt(3.0 / dim) / 128)
    centre = topic.reshape(-1, dim)[model * num_regions + origin]
    return normalised(centre + spread * noise)


def normalised(vector: jax.Array) -> jax.Array:
    """[..., E] of length 1."""
    return vector * jax.lax.rsqrt(jnp.maximum((vector**2).sum(axis=-1, keepdims=True), 1e-12))


def popular(num_models: int, exponent: jax.Array, u: jax.Array) -> jax.Array:
    """[N] int32 models by Zipf's law: model k is drawn in proportion to (k + 1)⁻ᵉˣᵖᵒⁿᵉⁿᵗ."""
    return category(zipf_cumulative(num_models, exponent), u)
