"""Random numbers of tasks from few random words.

Every number is a function of (key, stream, slot, task): more padding, a longer horizon or another batch
change none of them. A word carries 32 bits; where 16 are enough it serves two purposes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from scipy.special import gammaln

from torta_jax.workload.models import zipf_cumulative

NOISE, TOPICS, TASKS = range(3)
"""Streams: no two purposes share a key."""

LONGEST = 2.0**15
"""Length of the integer vectors that become unit vectors: their squared length stays below 2³¹."""


def fold(key: jax.Array, *numbers: int | jax.Array) -> jax.Array:
    """The key for a purpose, a slot and so on."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def fold_each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """[n] keys of some numbers [n]: each is decided by its number alone, however many there are."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def words(key: jax.Array, num_rows: int, num_columns: int) -> jax.Array:
    """[num_rows, num_columns] uint32; neither number changes the words that both have.

    Threefry turns a counter of two words into two random words: row and column give the counter of two rows,
    which costs half of `jax.random.bits` (that throws one of the two away).
    """
    pairs = -(-num_rows // 2)
    counter = jnp.indices((pairs, num_columns), jnp.uint32)
    pair = threefry_2x32(jax.random.key_data(key)[..., :2], counter)
    return pair.swapaxes(0, 1).reshape(2 * pairs, num_columns)[:num_rows]


def unit(word: jax.Array) -> jax.Array:
    """Uniform in (0, 1) on the centres of 2²³ cells, exact in float32: neither 0 nor 1, symmetric."""
    return ((word >> 9).astype(float) + 0.5) * 2.0**-23


def halves(word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two independent uniforms on the centres of 2¹⁶ cells of (0, 1)."""
    pair = jnp.stack([word >> 16, word & 0xFFFF]).astype(float)
    high, low = (pair + 0.5) * 2.0**-16
    return high, low


def normal(word: jax.Array) -> jax.Array:
    """Standard normal within ±5.4, the same in single and double precision."""
    return 2**0.5 * jax.lax.erf_inv(2 * unit(word) - 1)


def poisson(mean: jax.Array, word: jax.Array) -> jax.Array:
    """One Poisson number, int32, from one word.

    Up to a mean of 32 by inversion of the distribution; above, by Cornish and Fisher's expansion of its
    quantile, which is less than a tenth of a count off.
    """
    number = np.arange(96)
    chance = jnp.exp(number * jnp.log(jnp.maximum(mean, 1e-30)) - mean - gammaln(number + 1))
    few = (jnp.cumsum(chance) <= unit(word)).sum()
    z = normal(word)
    many = jnp.round(mean + jnp.sqrt(mean) * z + (z**2 - 1) / 6)
    return jnp.where(mean < 32, few, many).astype(jnp.int32)


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

    def add(total: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        return total + weight, total + weight

    start = jnp.zeros(weights.shape[:-1], weights.dtype)
    _, total = jax.lax.scan(add, start, jnp.moveaxis(weights, -1, 0))
    return jnp.moveaxis(total, 0, -1)


def topics(key: jax.Array, num_models: int, num_regions: int, dim: int) -> jax.Array:
    """[K, R, E] unit vectors: what a model is asked about, coloured by the region that asks."""
    if dim == 0:
        return jnp.zeros((num_models, num_regions, 0))
    scale = LONGEST / (2 * 5.4 * dim**0.5)  # two numbers of at most 5.4 in each of E coordinates
    vector = _whole(normal(words(fold(key, TOPICS), num_models + num_regions, dim)) * scale)
    return _unit_vectors(vector[:num_models, None], vector[num_models:])


def embed(topic: jax.Array, model: jax.Array, origin: jax.Array, spread: jax.Array, word: jax.Array) -> jax.Array:
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
    longest = LONGEST / (1 + 3**0.5 * spread)
    centre = _whole(topic * longest).reshape(-1, dim)[model * num_regions + origin]
    shift = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None]
    byte = ((word[:, None, :] >> shift) & 0xFF).reshape(-1, word.shape[-1])[:dim].astype(jnp.int32)
    step = _whole(longest * spread * ((3 / dim) ** 0.5 / 256))
    return _unit_vectors(centre, ((2 * byte - 255) * step).T)


def _whole(number: jax.Array) -> jax.Array:
    return jnp.round(number).astype(jnp.int32)


def _unit_vectors(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., E] the direction of a + b, one made even and one odd so that it is never zero.

    In whole numbers a sum has no rounding: floats would give other last bits when a compiler, for another
    batch size, adds in another order or fuses a multiplication into an addition.
    """
    total = (a & ~1) + (b | 1)
    return total * jax.lax.rsqrt((total**2).sum(axis=-1, keepdims=True).astype(float))


def popular(num_models: int, exponent: jax.Array, u: jax.Array) -> jax.Array:
    """[N] int32 models by Zipf's law: model k is drawn in proportion to (k + 1)⁻ᵉˣᵖᵒⁿᵉⁿᵗ."""
    return category(zipf_cumulative(num_models, exponent), u)
