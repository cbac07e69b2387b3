"""Replay of a recorded trace."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from torta_jax.calibration import CALIBRATED
from torta_jax.errors import InputError, require, unknown
from torta_jax.types import KINDS, Cluster, Scenario, Tasks
from torta_jax.workload import draws
from torta_jax.workload.models import MODEL_GB
from torta_jax.workload.synthetic import MAX_TASKS
from torta_jax.workload.table import TraceTable

A100_FLOPS = 312e12  # FP16 tensor cores, dense; NVIDIA A100 datasheet (SXM4, 80 GB)
A100_BYTES_PER_S = 2039e9  # the same
PARAMETERS = 7e9  # the size of `models.MODELS`
PREFILL_TOKENS_PER_S = 0.5 * A100_FLOPS / (2 * PARAMETERS)
"""11,000: a prompt token costs two operations per parameter, at half of the peak."""
DECODE_TOKENS_PER_S = 0.75 * A100_BYTES_PER_S / (2 * PARAMETERS)
"""109: a generated token reads every FP16 parameter once, at three quarters of the memory bandwidth."""

LIGHT_TOKENS = 512
PROMPT_RATIO = 4.0

ANY = -1  # a region or model that the trace does not name


class Prepared(struct.PyTreeNode):
    """What a slot of a replay needs beside the trace itself."""

    cumulative_share: jax.Array  # [R] of the demand, for requests without a region
    topic: jax.Array  # [K, R, E] unit vectors


class Trace(struct.PyTreeNode):
    """A trace in slots. Build it with `Trace.from_table`.

    The trace is shared by a whole batch of clusters; what it does not say (region, model, patience) is drawn
    by the key of the world. A replay is what was recorded: `Scenario.rate_factor` does not change it, use
    `TraceTable.rescaled` for more or fewer requests.
    """

    count: jax.Array  # [T] int32 requests per slot
    arrival_s: jax.Array  # [T, N] in [0, slot_s)
    input_tokens: jax.Array  # [T, N]
    output_tokens: jax.Array  # [T, N]
    kind: jax.Array  # [T, N] int32
    origin: jax.Array  # [T, N] int32, ANY where unknown
    model: jax.Array  # [T, N] int32, ANY where unknown
    model_gb: jax.Array  # [K]
    prefill_tokens_per_s: jax.Array  # on the reference GPU
    decode_tokens_per_s: jax.Array
    zipf_exponent: jax.Array
    patience_low_s: jax.Array
    patience_high_s: jax.Array
    embedding_spread: jax.Array
    start_hour_utc: jax.Array
    slot_s: float = struct.field(pytree_node=False)
    embedding_dim: int = struct.field(pytree_node=False)

    @property
    def max_tasks(self) -> int:
        return self.arrival_s.shape[-1]

    @classmethod
    def from_table(
        cls,
        table: TraceTable,
        *,
        regions: Sequence[str] | None = None,
        num_slots: int | None = None,
        slot_s: float = 45.0,
        max_tasks: int | None = None,
        model_gb: Sequence[float] = MODEL_GB,
        prefill_tokens_per_s: float = PREFILL_TOKENS_PER_S,
        decode_tokens_per_s: float = DECODE_TOKENS_PER_S,
        zipf_exponent: float = CALIBRATED.zipf_exponent,
        patience_low_s: float = 90.0,
        patience_high_s: float = 180.0,
        embedding_spread: float = 0.5,
        embedding_dim: int = 4,
    ) -> "Trace":
        """A table cut into slots; its first request arrives at the start of the first slot.

        Args:
            regions: names of the cluster's regions in order; needed only if the table names regions.
            num_slots: T; a longer trace is cut there, a shorter one leaves empty slots. Default: all of it.
            max_tasks: N; default: the busiest slot's, rounded up to a multiple of 32.
            model_gb: [K] memory; the table's most frequent model is model 0, and so on.

        Raises:
            InputError: for a number out of range, an unknown region, more models than K, or more requests in
                one slot than `max_tasks` or `MAX_TASKS`, with the number needed.
        """
        _check_positive(
            slot_s=slot_s,
            prefill_tokens_per_s=prefill_tokens_per_s,
            decode_tokens_per_s=decode_tokens_per_s,
            patience_high_s=patience_high_s,
        )
        low = patience_low_s
        require(0 <= low <= patience_high_s, f"patience_low_s = {low}: allowed are 0 to patience_high_s")
        num_models, found = len(model_gb), len(table.models)
        require(found <= num_models, f"{table.source}: {found} models, at most {num_models} are allowed")
        place = _Slots(table, slot_s, num_slots, max_tasks)
        traced = {
            "model_gb": model_gb,
            "prefill_tokens_per_s": prefill_tokens_per_s,
            "decode_tokens_per_s": decode_tokens_per_s,
            "zipf_exponent": zipf_exponent,
            "patience_low_s": patience_low_s,
            "patience_high_s": patience_high_s,
            "embedding_spread": embedding_spread,
            "start_hour_utc": table.start_hour_utc,
        }
        return cls(
            count=jnp.asarray(place.count, jnp.int32),
            arrival_s=_inside(place.pad(table.time_s - slot_s * place.slot), slot_s),
            input_tokens=jnp.asarray(place.pad(table.input_tokens), float),
            output_tokens=jnp.asarray(place.pad(table.output_tokens), float),
            kind=jnp.asarray(place.pad(kind_of(table.input_tokens, table.output_tokens)), jnp.int32),
            origin=jnp.asarray(place.pad(_origin(table, regions)), jnp.int32),
            model=jnp.asarray(place.pad(_or_any(table.model, table)), jnp.int32),
            slot_s=float(slot_s),
            embedding_dim=embedding_dim,
            **{name: jnp.asarray(value, float) for name, value in traced.items()},
        )

    def prepare(
        self, cluster: Cluster, scenario: Scenario, key: jax.Array, num_slots: int, slot_s: float | jax.Array
    ) -> Prepared:
        """Shares and topics; the horizon must lie within the trace's slots, which are of its own length.

        Raises:
            InputError: if `num_slots` is above T, or `slot_s` is a number other than the trace's.
        """
        have = self.count.shape[-1]
        require(num_slots <= have, f"{num_slots} slots asked of a trace of {have}: give from_table num_slots")
        if isinstance(slot_s, (int, float)):
            require(slot_s == self.slot_s, f"slot_s = {slot_s}, but the trace's slots have {self.slot_s} s")
        share = cluster.demand_share
        topic = draws.topics(key, self.model_gb.shape[-1], share.shape[-1], self.embedding_dim)
        return Prepared(draws.running_sum(share), topic)

    def arrivals(self, prepared: Prepared, key: jax.Array, slot: jax.Array) -> Tasks:
        """The tasks of a slot; see `types.Tasks`. Nothing overflows: `from_table` made room for all."""
        num_words = 3 + -(-self.embedding_dim // 4)
        word = draws.words(draws.fold(key, draws.TASKS, slot), num_words, self.max_tasks)
        popular, patience = draws.halves(word[2])
        drawn_origin = draws.category(prepared.cumulative_share, draws.unit(word[1]))
        drawn_model = draws.popular(self.model_gb.shape[-1], self.zipf_exponent, popular)
        origin = jnp.where(self.origin[slot] == ANY, drawn_origin, self.origin[slot])
        model = jnp.where(self.model[slot] == ANY, drawn_model, self.model[slot])
        return Tasks(
            mask=jnp.arange(self.max_tasks) < self.count[slot],
            arrival_s=self.arrival_s[slot],
            origin=origin,
            kind=self.kind[slot],
            model=model,
            prefill_s=self.input_tokens[slot] / self.prefill_tokens_per_s,
            decode_s=self.output_tokens[slot] / self.decode_tokens_per_s,
            patience_s=draws.between(self.patience_low_s, self.patience_high_s, patience),
            draw=draws.unit(word[0]),
            embedding=draws.embed(prepared.topic, model, origin, self.embedding_spread, word[3:]),
            overflow=jnp.zeros((prepared.cumulative_share.shape[-1], len(KINDS)), jnp.int32),
        )


def kind_of(input_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
    """[n] int32 index into KINDS, by a rule of ours.

    Light: at most 512 tokens in all. Else compute-intensive if the prompt is at least four times the answer
    (prefill is bound by arithmetic), else memory-intensive (generation is bound by memory bandwidth). The
    Azure conversation trace splits into 32 %, 30 % and 39 %.
    """
    compute, memory, light = (KINDS.index(name) for name in ("compute", "memory", "light"))
    heavy = np.where(input_tokens >= PROMPT_RATIO * output_tokens, compute, memory)
    return np.where(input_tokens + output_tokens <= LIGHT_TOKENS, light, heavy).astype(np.int32)


class _Slots:
    """Where each request of a table goes in padded [T, N] arrays."""

    def __init__(self, table: TraceTable, slot_s: float, num_slots: int | None, max_tasks: int | None):
        self.slot = np.floor(table.time_s / slot_s)
        num_slots = int(self.slot[-1]) + 1 if num_slots is None else num_slots
        require(num_slots >= 1, f"num_slots = {num_slots}, at least 1 is needed")
        self.kept = self.slot < num_slots
        row = self.slot[self.kept].astype(int)
        self.count = np.bincount(row, minlength=num_slots)
        needed = int(self.count.max())
        width = 32 * math.ceil(needed / 32) if max_tasks is None else max_tasks
        held = f"{table.source}: slot {int(self.count.argmax())} of {slot_s:g} s holds {needed} requests"
        require(needed <= MAX_TASKS, f"{held}, at most {MAX_TASKS} are allowed; are the timestamps cut short?")
        require(needed <= width, f"{held}, max_tasks = {width}")
        self._index = row, np.arange(len(row)) - (np.cumsum(self.count) - self.count)[row]
        self._shape = num_slots, width

    def pad(self, column: np.ndarray) -> np.ndarray:
        """[T, N] of an [n] column, zero in the padding."""
        padded = np.zeros(self._shape, column.dtype)
        padded[self._index] = column[self.kept]
        return padded


def _inside(arrival_s: np.ndarray, slot_s: float) -> jax.Array:
    """Times in [0, slot) also after rounding to the default float."""
    kind = np.dtype(jnp.zeros(()).dtype).type
    return jnp.asarray(np.clip(arrival_s.astype(kind), 0, np.nextafter(kind(slot_s), kind(0))))


def _or_any(ids: np.ndarray | None, table: TraceTable) -> np.ndarray:
    return np.full(len(table), ANY, np.int32) if ids is None else ids


def _origin(table: TraceTable, regions: Sequence[str] | None) -> np.ndarray:
    """[n] index of each request's region in the cluster."""
    if table.region is None:
        return _or_any(None, table)
    if regions is None:
        raise InputError(f"{table.source} names regions: from_table needs the cluster's region names")
    index = {name: position for position, name in enumerate(regions)}
    for number, name in enumerate(table.regions):
        if name not in index:
            first = int(np.argmax(table.region == number)) + 1
            raise InputError(f"{table.source}, request {first}: {unknown('region', name, regions)}")
    return np.asarray([index[name] for name in table.regions], np.int32)[table.region]


def _check_positive(**numbers: Any) -> None:
    for name, value in numbers.items():
        require(bool(np.isfinite(value)) and value > 0, f"{name} = {value!r}: a positive number is needed")
