"""The served models: their memory and their popularity."""

import jax
import jax.numpy as jnp

MODELS = (
    ("LLaMA-2-7B", 6.74),
    ("Mistral-7B", 7.24),
    ("Llama-3-8B", 8.03),
    ("Gemma-7B", 8.54),
    ("LLaMA-2-13B", 13.0),
    ("Qwen1.5-14B", 14.2),
    ("Codestral-22B", 22.2),
    ("CodeLlama-34B", 33.7),
)
"""Name and parameters in 10⁹ (the publishers' model cards), the most popular first.

In FP16 a parameter takes two bytes. A T4 (16 GB) holds the first two, an RTX 4090 (24 GB) the first four, a
V100 (32 GB) the first six, an A100 or H100 (80 GB) all.
"""

MODEL_GB = tuple(2.0 * billions for _, billions in MODELS)
"""[K] weights in FP16, GB."""


def zipf_cumulative(num_models: int, exponent: jax.Array) -> jax.Array:
    """[K] running sum of the popularity rank⁻ᵉˣᵖᵒⁿᵉⁿᵗ, not normalised."""
    return jnp.cumsum(jnp.arange(1.0, num_models + 1) ** -exponent)
