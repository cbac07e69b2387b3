"""Sums with the same bits in a batch of any size."""

import jax
import jax.numpy as jnp


def total(x: jax.Array, axis: int = -1) -> jax.Array:
    """Sum over one axis, halves onto halves.

    The compiler's own reduction of real numbers adds in another order for another size of the batch.
    """
    x = jnp.moveaxis(x, axis, -1)
    size = x.shape[-1]
    rows = 1 << max(size - 1, 0).bit_length()
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, rows - size)])
    while rows > 1:
        rows //= 2
        x = x[..., :rows] + x[..., rows:]
    return x[..., 0]


def total_of_all(x: jax.Array) -> jax.Array:
    """Sum over every axis, one after the other, so that zeros at the end of an axis change no bit."""
    while x.ndim > 0:
        x = total(x)
    return x
