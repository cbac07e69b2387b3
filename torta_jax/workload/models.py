"""The served models: their memory and their popularity."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

MODELS = (
    ("LLaMA-2-7B", 6.74),
    ("Mistral-7B", 7.24),
    ("Falcon-7B", 7.22),
    ("Qwen1.5-7B", 7.72),
    ("DeepSeek-LLM-7B", 6.91),
    ("OLMo-7B", 6.89),
    ("MPT-7B", 6.65),
    ("Yi-6B", 6.06),
)
"""Name and parameters in 10⁹ (the publishers' model cards), the most popular first.

In FP16 a parameter takes two bytes, so that every GPU type of Table I can serve every model, as in the paper: a T4
(16 GB) or an RTX 4090 (24 GB) holds one of them at a time, a V100 (32 GB) two, an A100 or H100 (80 GB) five.
"""

MODEL_GB = tuple(2.0 * billions for _, billions in MODELS)
"""[K] weights in FP16, GB."""


def stand_ins(names: Sequence[str]) -> str:
    """One line on the models that stand in for those a trace names, the most frequent first."""
    served = zip(names, MODELS, MODEL_GB, strict=False)
    pairs = ", ".join(f"{name!r} as {model} ({size_gb:.1f} GB)" for name, (model, _), size_gb in served)
    return f"model names are not looked up; by how often they occur, {pairs}; each at the speed of 7 billion parameters"


def zipf_cumulative(num_models: int, exponent: jax.Array) -> jax.Array:
    """[K] running sum of the popularity rank⁻ᵉˣᵖᵒⁿᵉⁿᵗ, not normalised."""
    return jnp.cumsum(jnp.arange(1.0, num_models + 1) ** -exponent)
