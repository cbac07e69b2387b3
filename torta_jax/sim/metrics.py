"""What is measured: per-slot sums and exact counts, and histograms that do not grow with time."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

TIMES = ("response", "wait", "inference", "network")
"""The times of a completed task with a histogram: response = wait + inference + network."""

OCTAVES = 13
PER_OCTAVE = 64
NUM_BINS = OCTAVES * PER_OCTAVE + 1

BIN_EDGES_S = np.append(
    np.outer(2.0 ** np.arange(OCTAVES), 1 + np.arange(PER_OCTAVE) / PER_OCTAVE).ravel() - 1, [2.0**OCTAVES - 1, np.inf]
)
"""[NUM_BINS + 1] edges in seconds: 1/64 s apart near zero, at most 1.6 % apart far from it; the last bin is open.

Octaves of 1 + time in equal parts, as in HdrHistogram (Tene): a bin is the leading bits of a real number.
"""


class SlotMetrics(struct.PyTreeNode):
    """One slot of one cluster. Counts are int32 and exact; times are sums over tasks completed in the slot."""

    arrived: jax.Array  # tasks that entered during the slot
    completed: jax.Array
    late: jax.Array  # of the completed: finished after their deadline
    dropped: jax.Array  # [3] by types.Drop
    running: jax.Array  # at the end of the slot
    queued: jax.Array  # at the end of the slot: committed to a lane, not started
    buffered: jax.Array  # at the end of the slot: waiting in a region
    unmatched: jax.Array  # waited a slot since their region had more tasks than rows to match them in
    response_s: jax.Array  # sum over completed tasks
    wait_s: jax.Array
    inference_s: jax.Array
    network_s: jax.Array
    load_balance: jax.Array  # Eq 11, 1 / (1 + CV of the active servers' utilisation)
    utilisation: jax.Array  # mean over the active servers of the busy share of their time on
    active_servers: jax.Array  # warm and switched on, or draining, for some of the slot
    energy_kwh: jax.Array
    power_cost_usd: jax.Array
    model_loads: jax.Array
    model_load_s: jax.Array
    migrations: jax.Array  # interrupted tasks that were given a server again
    migration_s: jax.Array
    server_starts: jax.Array
    warmup_s: jax.Array
    switching_cost: jax.Array  # ||A_t - A_{t-1}||_F^2 of realised shares (Section III); NaN after unlawful ones


def bin_of(time_s: jax.Array) -> jax.Array:
    """Index of the histogram bin of a time in seconds; anything beyond the last finite edge is in the last bin."""
    info = jnp.finfo(time_s.dtype)
    bits = lambda x: lax.bitcast_convert_type(x, f"int{info.bits}")  # noqa: E731
    above_one = bits(1 + time_s) - bits(jnp.ones_like(time_s))  # in steps of 1's last bit
    return jnp.clip(above_one // (2**info.nmant // PER_OCTAVE), 0, NUM_BINS - 1).astype(jnp.int32)


def quantile(counts: np.ndarray, q: float) -> np.ndarray:
    """Quantile of binned times, linear inside a bin.

    Args:
        counts: [..., NUM_BINS] tasks per bin.
        q: in (0, 1).

    Returns:
        [...] seconds; NaN where no task was counted, the last finite edge in the open bin.
    """
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(axis=-1, keepdims=True)
    cumulative = np.cumsum(counts, axis=-1)
    target = q * total
    index = np.minimum((cumulative < target).sum(axis=-1, keepdims=True), NUM_BINS - 1)
    inside = np.take_along_axis(counts, index, axis=-1)
    before = np.take_along_axis(cumulative, index, axis=-1) - inside
    low = BIN_EDGES_S[index]
    high = np.where(index == NUM_BINS - 1, low, BIN_EDGES_S[index + 1])
    share = np.divide(target - before, inside, out=np.zeros_like(inside), where=inside > 0)
    return np.where(total > 0, low + share * (high - low), np.nan)[..., 0]
