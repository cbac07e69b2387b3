"""Random worlds to train and judge on: clusters, workloads and scenarios, each from one key."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.calibration import CALIBRATED
from torta_jax.cluster.random import random_cluster
from torta_jax.sim.slot import World, make_world
from torta_jax.workload import Synthetic
from torta_jax.workload.scenario import random_scenario

CLUSTER, LOAD, HOUR, NOISE, IDLE, EVENTS, ARRIVALS, WORK, GPUS, SIZE, SPREAD = range(11)
"""Streams of random numbers."""


class Range(struct.PyTreeNode):
    """What a kind of world may be like; a number with two ends is uniform between them."""

    load: tuple[float, float] = (0.3, 0.5)
    noise_sigma: tuple[float, float] = (0.1, 0.3)
    idle: tuple[float, float] = (1.0, 1.0)  # factor on the watts of idling and warming
    work: tuple[float, float] = (1.0, 1.0)  # factor on the work of a task
    # Of servers and GPUs, see `random_cluster`.
    size: tuple[float, float] = (1 / 3, 1.0)
    spread: tuple[float, float] = (0.0, 1.0)
    catalogue: float = 0.0  # probability that GPUs take the catalogue's times and suit all tasks alike
    max_surge: float = 1.0  # 1: none
    max_price: float = 1.0


CALM = Range()
"""Prices as they are, moderate noise."""

HARD = Range(load=(0.25, 0.45), noise_sigma=(0.2, 0.5), idle=(1.0, 1.5), max_surge=2.0, max_price=4.0)
"""Prices that move, demand that is hard to foretell, sharp surges, dear idling."""

LIGHT = Range(load=(0.02, 0.12), noise_sigma=(0.1, 0.5), work=(0.1, 0.5), catalogue=0.5)
"""Short tasks, a fleet that is mostly off; GPUs as in the calibrated world or, in every other one, as where a trace is
replayed."""


def random_world(key: jax.Array, kind: Range, num_regions: int, num_servers: int, num_slots: int) -> World:
    """A world of a kind; pure, for vmap over keys. The workload's room for tasks is that of the calibrated world."""

    def pick(stream, ends):
        return jax.random.uniform(jax.random.fold_in(key, stream), minval=ends[0], maxval=ends[1])

    catalogue = pick(GPUS, (0.0, 1.0)) < kind.catalogue
    cluster = random_cluster(
        jax.random.fold_in(key, CLUSTER),
        num_regions,
        num_servers,
        size=pick(SIZE, kind.size),
        spread=pick(SPREAD, kind.spread),
        speed_spread=jnp.where(catalogue, 1.0, CALIBRATED.speed_spread),
        mismatch=jnp.where(catalogue, 1.0, CALIBRATED.mismatch),
    )
    idle = pick(IDLE, kind.idle)
    cluster = cluster.replace(
        idle_w=jnp.minimum(cluster.idle_w * idle, cluster.active_w), warming_w=cluster.warming_w * idle
    )
    work = pick(WORK, kind.work)
    workload = SYNTHETIC.replace(
        load=pick(LOAD, kind.load),
        start_hour_utc=pick(HOUR, (0.0, 24.0)),
        noise_sigma=pick(NOISE, kind.noise_sigma),
        work_low_s=SYNTHETIC.work_low_s * work,
        work_high_s=SYNTHETIC.work_high_s * work,
    )
    scenario = random_scenario(
        jax.random.fold_in(key, EVENTS),
        num_slots,
        num_regions,
        failures=0,
        max_surge=kind.max_surge,
        max_price=kind.max_price,
    )
    # Half of the surges drawn are below one; factors of events at once multiply. What is less than calm counts as calm.
    scenario = scenario.replace(
        rate_factor=jnp.maximum(scenario.rate_factor, 1.0), price_factor=jnp.maximum(scenario.price_factor, 1.0)
    )
    return make_world(cluster, workload, scenario, jax.random.fold_in(key, ARRIVALS), num_slots)


SYNTHETIC = Synthetic.create()
