"""Fleets after Table I: how many GPUs of which type stand where, and what each can do."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.cluster.catalogue import GPUS, gpu_index
from torta_jax.cluster.seeds import generator
from torta_jax.errors import InputError, require, unknown
from torta_jax.types import KINDS

SCOPES = ("total", "per-region")
COUNTS = ("midpoint", "draw")
MAX_COUNT = 1_000_000


def place_servers(
    num_regions: int,
    *,
    scope: str = "total",
    counts: str | Mapping[str, int] = "midpoint",
    max_servers: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Which GPU type stands at which place.

    Args:
        num_regions: R.
        scope: whether the counts are those of the whole network (`total`: all GPUs mixed by the seed, then
            dealt out evenly, so that regions differ by at most one server) or of each region (`per-region`).
            Table I does not say which it means.
        counts: `midpoint` of the ranges of Table I, `draw` from them, or GPUs by type name (absent types: 0).
        max_servers: S, for fleets that are to have one shape; default the largest region's number.
        seed: of the mix and the draw.

    Returns:
        gpu [R, S] int32, index into `GPUS` (padding: 0), and mask [R, S] bool. The order within a region is
        random, so that a policy which takes servers in order meets all types.

    Raises:
        InputError: unknown option or GPU, impossible counts, a region without any server, `max_servers` too
            small (the message has the number needed).
    """
    require(num_regions >= 1, f"num_regions {num_regions}: at least 1 is needed")
    if scope not in SCOPES:
        raise unknown("fleet scope", scope, SCOPES)
    draws = generator(seed, "counts")
    mix = generator(seed, "placement")
    types = np.arange(len(GPUS))
    if scope == "total":
        deck = mix.permutation(np.repeat(types, _counts(counts, draws)))
        regions = [deck[region::num_regions] for region in range(num_regions)]
    else:
        regions = [mix.permutation(np.repeat(types, _counts(counts, draws))) for _ in range(num_regions)]
    require(
        min(map(len, regions)) > 0,
        f"{sum(map(len, regions))} GPUs for {num_regions} regions: every region needs at least one",
    )
    return _pad(regions, max_servers)


def _counts(counts: str | Mapping[str, int], draws: np.random.Generator) -> np.ndarray:
    """[G] GPUs by type."""
    low, high = np.array([gpu.count for gpu in GPUS]).T
    if isinstance(counts, Mapping):
        numbers = np.zeros(len(GPUS), int)
        for name, number in counts.items():
            whole = isinstance(number, int | np.integer) and 0 <= number <= MAX_COUNT
            require(whole, f"count of {name!r}: {number!r} is not a whole number from 0 to {MAX_COUNT}")
            numbers[gpu_index(name)] = number
        return numbers
    if counts == "midpoint":
        return (low + high) // 2
    if counts == "draw":
        return draws.integers(low, high, endpoint=True)
    raise unknown("fleet counts", counts, COUNTS)


def _pad(regions: list[np.ndarray], max_servers: int | None) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array([len(region) for region in regions])
    largest = int(sizes.max())
    width = largest if max_servers is None else max_servers
    if not isinstance(width, int) or not largest <= width <= MAX_COUNT:
        raise InputError(f"max_servers {width!r}: not from {largest}, the largest region's, to {MAX_COUNT}")
    mask = np.arange(width) < sizes[:, None]
    gpu = np.zeros(mask.shape, np.int32)
    gpu[mask] = np.concatenate(regions)
    return gpu, mask


def equip(
    gpu: jax.Array,
    mask: jax.Array,
    *,
    speed_spread: float | jax.Array = 1.0,
    mismatch: float | jax.Array = 0.5,
    switch_factor: float | jax.Array = 1.0,
    lanes: int = 1,
) -> dict[str, jax.Array]:
    """The server fields of a `Cluster` from its GPU types; pure JAX, for jit, vmap and grad.

    Args:
        gpu: [R, S] int32 index into `GPUS`.
        mask: [R, S] bool, servers that exist.
        speed_spread: exponent on the relative speeds; 0: all types equally fast, 1: the catalogue's.
        mismatch: speed factor in (0, 1] of a task whose kind is not the type's of Table I.
        switch_factor: scales the seconds of a model switch.
        lanes: L, execution lanes of each server.

    Returns:
        The fields by name, in JAX's default float type. Padding has no lane, no power and no delay; its
        speeds are 1, so that nothing divides by zero.
    """

    def per_server(values, padding: float) -> jax.Array:
        return jnp.where(mask, jnp.asarray(values)[..., gpu], padding)

    def fact(name: str) -> jax.Array:
        return jnp.asarray([float(getattr(kind, name)) for kind in GPUS])

    meant_for = jnp.asarray([[gpu.kind == kind for gpu in GPUS] for kind in KINDS])  # [3, G]
    lane_shape = (*mask.shape[:-1], lanes, mask.shape[-1])
    zero_padded = (
        "memory_gb",
        "warmup_s",
        "migrate_out_s",
        "migrate_in_s",
        "idle_w",
        "active_w",
        "warming_w",
    )
    return {
        "gpu": jnp.asarray(gpu),
        "lane_mask": jnp.broadcast_to(mask[..., None, :], lane_shape),
        "prefill_speed": per_server(fact("prefill_speed") ** speed_spread, 1.0),
        "decode_speed": per_server(fact("decode_speed") ** speed_spread, 1.0),
        "kind_match": per_server(jnp.where(meant_for, 1.0, mismatch), 1.0),
        "switch_s": per_server(fact("switch_s") * switch_factor, 0.0),
        **{name: per_server(fact(name), 0.0) for name in zero_padded},
    }
