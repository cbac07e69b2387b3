"""Sums with the same bits in a batch of any size."""

import jax
import jax.numpy as jnp

FOLDS = 4
"""Halvings that the compiler gets as one expression, so that it makes one kernel of them."""


def total(x: jax.Array, axis: int = -1) -> jax.Array:
    """Sum over one axis, halves onto halves.

    The compiler's own reduction of real numbers adds in another order for another size of the batch.
    """
    x = jnp.moveaxis(x, axis, -1)
    size = x.shape[-1]
    halvings = max(size - 1, 0).bit_length()
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, (1 << halvings) - size)])
    while halvings > 0:
        folds = min(halvings, FOLDS)
        halvings -= folds
        parts = jnp.split(x, 1 << folds, axis=-1)
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [one + other for one, other in zip(parts[:half], parts[half:], strict=True)]
        x = parts[0]
    return x[..., 0]


def total_of_all(x: jax.Array) -> jax.Array:
    """Sum over every axis, one after the other, so that zeros at the end of an axis change no bit."""
    while x.ndim > 0:
        x = total(x)
    return x
