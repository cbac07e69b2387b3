"""Synthetic arrivals: an inhomogeneous Poisson process over regions and hours."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import stats

from torta_jax.calibration import CALIBRATED
from torta_jax.errors import require
from torta_jax.types import KINDS, Cluster, Scenario, Tasks
from torta_jax.workload import draws
from torta_jax.workload.models import MODEL_GB

GAP_BITS = 16
"""Gaps between arrivals are integers of 2⁻¹⁶ mean gaps: their sum is exact in any order, on any device."""

MAX_TASKS = 30_000
"""The largest padding for which the sum of all gaps stays below 2³¹."""

RANGES = {
    "load": (0.0, math.inf),
    "amplitude": (0.0, 1.0),
    "peak_hour": (0.0, 24.0),
    "start_hour_utc": (0.0, 24.0),
    "noise_sigma": (0.0, 3.0),
    "noise_time_s": (1e-3, math.inf),
    "noise_shared": (0.0, 1.0),
    "work_low_s": (0.0, math.inf),
    "work_high_s": (1e-6, math.inf),
    "prefill_share": (0.0, 1.0),
    "kind_share": (0.0, math.inf),
    "model_gb": (1e-6, math.inf),
    "zipf_exponent": (0.0, 20.0),
    "patience_low_s": (0.0, math.inf),
    "patience_high_s": (0.0, math.inf),
    "embedding_spread": (0.0, math.inf),
    "max_tasks": (1, MAX_TASKS),
    "embedding_dim": (0, 4096),
}
"""Allowed values of every number of `Synthetic`, ends included (infinity never); whole where the ends are."""


class Prepared(struct.PyTreeNode):
    """What a slot of a synthetic workload needs."""

    rate: jax.Array  # [T, R] expected tasks per slot, noise and surges included
    cumulative_rate: jax.Array  # [T, R] its running sum over the regions
    topic: jax.Array  # [K, R, E] unit vectors
    slot_s: jax.Array


class Synthetic(struct.PyTreeNode):
    """Poisson arrivals that follow the sun. Build it with `Synthetic.create`, which checks every number.

    The rate of region r in slot t is

        rate[t, r] = λ · share[r] · day(local hour of r) · exp(noise[t, r] − σ²/2) · rate_factor[t, r]
        day(h)     = 1 + amplitude · cos(2π (h − peak_hour) / 24)

    `noise` is Gaussian with standard deviation σ = `noise_sigma`, AR(1) in time with correlation time
    `noise_time_s`; the share `noise_shared` of its variance is common to all regions; its factor has mean 1.

    `load` fixes λ: at the hour of the day at which the whole fleet is asked for most, before noise and
    surges, the offered work (task rate × mean work, in seconds on the reference GPU) is `load` times the
    fleet's capacity. The capacity is the sum over all lanes of their speed on the mean task,
    1 / (prefill_share / prefill_speed + (1 − prefill_share) / decode_speed), every server switched on, every
    task on a GPU that suits it, no model switched: what a real fleet serves is less.

    The default amplitude gives a day with peak/trough 1.9, as in Azure's public LLM inference trace of 2024 (one
    week). σ = 0.2 is that of its conversation trace of 2023 (index of dispersion about 12 at 250 tasks per 45 s), taken
    for each region; with half of the variance common, the total of twelve regions varies by 0.15. Work is uniform as in
    the paper (Section VI).
    """

    load: jax.Array
    amplitude: jax.Array
    peak_hour: jax.Array  # local solar time
    start_hour_utc: jax.Array  # hour of the first slot
    noise_sigma: jax.Array
    noise_time_s: jax.Array
    noise_shared: jax.Array
    work_low_s: jax.Array  # prefill + decode on the reference GPU
    work_high_s: jax.Array
    prefill_share: jax.Array  # of the work
    kind_share: jax.Array  # [3] weights of types.KINDS
    model_gb: jax.Array  # [K]
    zipf_exponent: jax.Array
    patience_low_s: jax.Array
    patience_high_s: jax.Array
    embedding_spread: jax.Array  # length of a task's own noise against its topic's 1
    max_tasks: int = struct.field(pytree_node=False)
    embedding_dim: int = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        *,
        load: float = CALIBRATED.load,
        amplitude: float = 0.31,
        peak_hour: float = 15.0,
        start_hour_utc: float = CALIBRATED.start_hour_utc,
        noise_sigma: float = CALIBRATED.noise_sigma,
        noise_time_s: float = 600.0,
        noise_shared: float = 0.5,
        work_low_s: float = CALIBRATED.work_low_s,
        work_high_s: float = CALIBRATED.work_high_s,
        prefill_share: float = 0.1,
        kind_share: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3),
        model_gb: tuple[float, ...] = MODEL_GB,
        zipf_exponent: float = CALIBRATED.zipf_exponent,
        patience_low_s: float = 90.0,
        patience_high_s: float = 180.0,
        embedding_spread: float = 0.5,
        max_tasks: int = 1152,
        embedding_dim: int = 4,
    ) -> "Synthetic":
        """A checked workload; `RANGES` has the allowed values.

        Raises:
            InputError: naming the number, its value and the allowed range.
        """
        numbers = {name: value for name, value in locals().items() if name != "cls"}
        for name, value in numbers.items():
            _check_range(name, value)
        for low, high in (("work_low_s", "work_high_s"), ("patience_low_s", "patience_high_s")):
            a, b = numbers[low], numbers[high]
            require(a <= b, f"{low} = {a} is above {high} = {b}")
        require(len(kind_share) == len(KINDS), f"kind_share needs {len(KINDS)} weights: {', '.join(KINDS)}")
        require(sum(kind_share) > 0, "kind_share: at least one weight must be positive")
        require(len(model_gb) > 0, "model_gb: at least one model is needed")
        fields: dict[str, Any] = {name: jnp.asarray(value, float) for name, value in numbers.items()}
        fields |= {"max_tasks": int(max_tasks), "embedding_dim": int(embedding_dim)}
        return cls(**fields)

    def prepare(
        self, cluster: Cluster, scenario: Scenario, key: jax.Array, num_slots: int, slot_s: float | jax.Array
    ) -> Prepared:
        """Rates of a horizon of `num_slots` slots of `slot_s` seconds; `scenario` has as many rows."""
        share = cluster.demand_share
        task_rate = self._task_rate(cluster) * slot_s
        noise = _exp(self._noise(key, num_slots, share.shape[-1], slot_s) - self.noise_sigma**2 / 2)
        rate = task_rate * share * self._day(cluster, num_slots, slot_s) * noise * scenario.rate_factor
        topic = draws.topics(key, self.model_gb.shape[-1], share.shape[-1], self.embedding_dim)
        return Prepared(rate, draws.running_sum(rate), topic, jnp.asarray(slot_s, float))

    def arrivals(self, prepared: Prepared, key: jax.Array, slot: jax.Array) -> Tasks:
        """The tasks of a slot; see `types.Tasks`.

        Tasks beyond `max_tasks` (the latest of the slot) are in `overflow`, all of them booked to the region
        with the highest rate and to kind 0: their own were never drawn.
        """
        num_words = 6 + -(-self.embedding_dim // 4)
        word = draws.words(draws.fold(key, draws.TASKS, slot), num_words, self.max_tasks)
        cumulative = prepared.cumulative_rate[slot]
        clock, expected_beyond = _poisson_process(word[0], cumulative[-1])
        kind, model = draws.halves(word[3])
        work, patience = draws.halves(word[4])
        work_s = draws.between(self.work_low_s, self.work_high_s, work)
        origin = draws.category(cumulative, draws.unit(word[2]))
        model = draws.popular(self.model_gb.shape[-1], self.zipf_exponent, model)
        last_s = prepared.slot_s * (1 - jnp.finfo(work_s.dtype).eps)
        return Tasks(
            mask=clock < 1,
            arrival_s=jnp.minimum(clock * prepared.slot_s, last_s),
            origin=origin,
            kind=draws.category(draws.running_sum(self.kind_share), kind),
            model=model,
            prefill_s=work_s * self.prefill_share,
            decode_s=work_s * (1 - self.prefill_share),
            patience_s=draws.between(self.patience_low_s, self.patience_high_s, patience),
            draw=draws.unit(word[1]),
            embedding=draws.embed(prepared.topic, model, origin, self.embedding_spread, word[6:]),
            overflow=_overflow(draws.poisson(expected_beyond, word[5, 0]), prepared.rate[slot]),
        )

    def padded_for(self, prepared: Prepared, probability: float = 1e-9) -> "Synthetic":
        """The same workload with room for the busiest slot of `prepared` (any batch axes).

        Preparing does not depend on `max_tasks`, and more room changes no task.
        """
        busiest = float(np.asarray(prepared.cumulative_rate)[..., -1].max())
        return dataclasses.replace(self, max_tasks=padding_for(busiest, probability))

    def _task_rate(self, cluster: Cluster) -> jax.Array:
        """Tasks per second of the whole fleet, averaged over a day."""
        capacity = fleet_capacity(cluster, self.prefill_share)
        angle = 2 * jnp.pi / 24 * cluster.utc_offset_h
        share = cluster.demand_share
        # A sum of cosines of one period is a cosine again: its height is the length of the summed phasors.
        swing = jnp.hypot(_sum(share * jnp.cos(angle)), _sum(share * jnp.sin(angle)))
        peak = _sum(share) + self.amplitude * swing
        return self.load * capacity / (0.5 * (self.work_low_s + self.work_high_s) * peak)

    def _day(self, cluster: Cluster, num_slots: int, slot_s: float | jax.Array) -> jax.Array:
        """[T, R] diurnal factor in the middle of each slot, mean 1 over a day."""
        hour_utc = self.start_hour_utc + (jnp.arange(num_slots) + 0.5) * slot_s / 3600
        local = hour_utc[:, None] + cluster.utc_offset_h
        return 1 + self.amplitude * jnp.cos(2 * jnp.pi / 24 * (local - self.peak_hour))

    def _noise(self, key: jax.Array, num_slots: int, num_regions: int, slot_s: float | jax.Array) -> jax.Array:
        """[T, R] stationary Gaussian noise: a shared and a regional part, each AR(1)."""
        shock = draws.normal(draws.words(draws.fold(key, draws.NOISE), num_slots, num_regions + 1))
        keep = jnp.exp(-slot_s / self.noise_time_s)

        def step(state: jax.Array, shock: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = keep * state + shock
            return state, state

        _, later = jax.lax.scan(step, shock[0], jnp.sqrt(1 - keep**2) * shock[1:])
        state = jnp.concatenate([shock[:1], later])
        shared, regional = state[:, :1], state[:, 1:]
        mix = jnp.sqrt(self.noise_shared) * shared + jnp.sqrt(1 - self.noise_shared) * regional
        return self.noise_sigma * mix


def fleet_capacity(cluster: Cluster, prefill_share: float | jax.Array) -> jax.Array:
    """Seconds of reference work that all lanes of a cluster do in a second, on tasks that suit them."""
    seconds = prefill_share / cluster.prefill_speed + (1 - prefill_share) / cluster.decode_speed
    lanes = cluster.lane_mask.sum(axis=-2)
    return _sum(jnp.where(lanes > 0, lanes / seconds, 0.0).reshape(*lanes.shape[:-2], -1))


def padding_for(rate: float, probability: float = 1e-9) -> int:
    """A padding N, a multiple of 32, with P(Poisson(rate) > N) < probability.

    `rate` is the highest expected number of tasks in one slot of the fleet, surges and noise included.

    Raises:
        InputError: if N would be above `MAX_TASKS`.
    """
    needed = max(32, 32 * math.ceil(float(stats.poisson.isf(probability, rate)) / 32)) if rate > 0 else 32
    require(needed <= MAX_TASKS, f"{rate:.0f} tasks expected in a slot need room for {needed}, {MAX_TASKS} are allowed")
    return needed


def _poisson_process(word: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Arrival times in slots, [N] sorted, at 1 or later if beyond the slot; and the mean number beyond row N.

    Sums of exponential gaps are the arrivals of a Poisson process of rate 1; those before `rate` are Poisson
    in number and, divided by it, sorted uniforms. The gaps after the last row have no memory, so what the
    padding cuts off is again Poisson.
    """
    gap = jnp.round(-jnp.log(draws.unit(word)) * 2.0**GAP_BITS).astype(jnp.int32)
    time = jnp.cumsum(gap).astype(float) * 2.0**-GAP_BITS
    clock = jnp.where(time < rate, time / jnp.where(rate > 0, rate, 1.0), 1.0)
    return clock, jnp.maximum(rate - time[-1], 0.0)


def _overflow(count: jax.Array, rate: jax.Array) -> jax.Array:
    """[R, 3] int32: all tasks beyond the padding, at the busiest region and kind 0."""
    region = jnp.arange(rate.shape[-1]) == jnp.argmax(rate)
    first_kind = jnp.arange(len(KINDS)) == 0
    return count * (region[:, None] & first_kind)


def _sum(weights: jax.Array) -> jax.Array:
    """[...] sum over the last axis from left to right: the same bits in any batch."""
    return draws.running_sum(weights)[..., -1]


def _exp(x: jax.Array) -> jax.Array:
    """exp(x) for |x| up to about 50, with the same bits in any batch.

    The library's exp differs in the last bit between the vectorised body of a loop and its remainder. This is
    Taylor's series at x / 64, then six squarings; relative error 64 roundings.
    """
    series = jnp.ones_like(x)
    for n in range(14, 0, -1):
        series = 1 + series * (x / (64 * n))
    for _ in range(6):
        series = series * series
    return series


def _check_range(name: str, value: object) -> None:
    low, high = RANGES[name]
    whole = isinstance(low, int)
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        numbers = np.asarray(np.nan)
    good = np.isfinite(numbers) & (numbers >= low) & (numbers <= high)
    good &= not whole or numbers == np.floor(numbers)
    require(
        bool(good.all()),
        f"{name} = {value!r}: allowed are {'whole ' * whole}numbers from {low:g} to {high:g}",
    )
