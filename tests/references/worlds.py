"""Random small worlds, and the policies that act in them, in batches for `vmap`."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from torta_jax import schedulers
from torta_jax.cluster.random import random_cluster
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Toll, Transport
from torta_jax.sim.account import Totals
from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule
from torta_jax.sim.metrics import SlotMetrics
from torta_jax.sim.observe import Observation
from torta_jax.sim.simulate import simulate
from torta_jax.sim.slot import SlotRecord, make_world, reset, run_slot
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, Scenario, Tasks
from torta_jax.workload import Synthetic, random_scenario


class Size(NamedTuple):
    """Everything that decides a shape."""

    regions: int
    servers: int
    lanes: int
    slots: int
    max_tasks: int
    carry_tasks: int
    region_tasks: int
    information: str = "online"
    embedding: int = 4


SHARED = Size(regions=4, servers=3, lanes=2, slots=14, max_tasks=48, carry_tasks=36, region_tasks=10)
FLEETS = 8 * len(schedulers.NAMES)
"""A size and a number of worlds that suffice for most tests, which then share a compiled `play`."""


def stack(trees):
    """Trees of numbers as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(numbers, trees))


def named_policies(count: int) -> Rules:
    """[count] every policy in turn."""
    return stack([schedulers.get(schedulers.NAMES[i % len(schedulers.NAMES)]) for i in range(count)])


def random_policy(key: jax.Array) -> Rules:
    """A policy with every number drawn at random, sensible or not."""
    u: Any = iter(jax.random.uniform(key, (40,)))

    def often_infinite(x) -> Any:
        return jnp.where(next(u) < 0.4, jnp.inf, x)

    return Rules(
        transport=Transport(
            plan=next(u) * len(PLANS) // 1,
            price_weight=next(u),
            latency_weight=next(u),
            epsilon=0.02 + next(u),
            utilisation=0.2 + next(u),
            smoothing=2 * next(u),
        ),
        forecast=Forecast(level=next(u), trend=next(u), horizon=4 * next(u)),
        weights=Weights(*(4 * next(u) - 1 for _ in Weights.__dataclass_fields__)),
        rule=Rule(
            keep_below=often_infinite(3 * next(u)),
            room_below=often_infinite(3 * next(u)),
            latency_weight=next(u),
            load_weight=next(u),
            cyclic=next(u) < 0.3,
        ),
        activation=ActivationRule(
            sigma=2 * next(u),
            utilisation=0.2 + next(u),
            max_starts=often_infinite(2.0),
            max_stops=often_infinite(1.0),
            cooldown_s=90 * next(u),
        ),
        by_urgency=next(u) < 0.5,
        max_wait_s=often_infinite(120 * next(u)),
        toll=Toll(weight=2 * next(u), newest=next(u)),
        by_auction=next(u) < 0.4,
    )


def random_policies(keys: jax.Array) -> Rules:
    """[count] of the types of `named_policies`."""
    return jax.tree.map(lambda x: x.astype(x.dtype), jax.vmap(random_policy)(keys))


def random_world(key: jax.Array, size: Size, *, drops: bool = True):
    """A cluster, a workload, a scenario and the physics, all at random; `drops=False` leaves no reason to drop.

    The hour, and with it the price of electricity, changes once inside the run (if that is shorter than an hour).
    """
    cluster_key, scenario_key, number_key = jax.random.split(key, 3)
    load, mismatch, switch_factor, patience, lose = jax.random.uniform(number_key, (5,))
    cluster = random_cluster(
        cluster_key, size.regions, size.servers, size.lanes, mismatch=0.3 + 0.7 * mismatch, switch_factor=switch_factor
    )
    workload = Synthetic.create(max_tasks=size.max_tasks, embedding_dim=size.embedding, zipf_exponent=1.5)
    patience_s = 30 + 120 * patience if drops else 1e6
    workload = workload.replace(load=0.1 + load, patience_low_s=0.5 * patience_s, patience_high_s=1.5 * patience_s)
    scenario = random_scenario(scenario_key, size.slots, size.regions, failures=2, longest_share=0.3)
    physics = numbers(
        Physics(carry_tasks=size.carry_tasks, region_tasks=size.region_tasks, information=size.information)
    )
    hour, part = jax.random.uniform(jax.random.fold_in(number_key, 1), (2,))
    before_h = (0.1 + 0.8 * part) * size.slots * physics.slot_s / 3600
    workload = workload.replace(start_hour_utc=(jnp.floor(24 * hour) - before_h) % 24)
    return cluster, workload, scenario, physics.replace(lose_running=(lose < 0.5) & drops)


def run_world(key: jax.Array, policy: Rules, size: Size, keep=None):
    """Simulate the random world of a key under one policy; what `simulate` returns."""
    cluster, workload, scenario, physics = random_world(key, size)
    return simulate(cluster, workload, policy, key, scenario=scenario, physics=physics, keep=keep)


class Recorded(struct.PyTreeNode):
    """Arrivals that are given, slot by slot."""

    tasks: Tasks  # [T, N] each
    model_gb: jax.Array
    start_hour_utc: jax.Array

    max_tasks = property(lambda self: self.tasks.mask.shape[-1])
    embedding_dim = property(lambda self: self.tasks.embedding.shape[-1])

    def prepare(self, cluster, scenario, key, num_slots, slot_s):
        return self.tasks

    def arrivals(self, prepared, key, slot):
        return jax.tree.map(lambda rows: rows[slot], prepared)


class Fleets(NamedTuple):
    """Random worlds side by side: every array has their axis first."""

    cluster: Cluster
    workload: Any  # Synthetic, or `Recorded`
    scenario: Scenario
    physics: Physics


@partial(jax.jit, static_argnames=("size", "drops"))
def fleets(keys: jax.Array, size: Size, *, drops: bool = True) -> Fleets:
    """The random worlds of some keys."""
    return Fleets(*jax.vmap(lambda key: random_world(key, size, drops=drops))(keys))


@jax.jit
def recorded(worlds: Fleets, keys: jax.Array) -> Fleets:
    """The same worlds, whose workload is what arrives in them."""

    def one(world: Fleets, key):
        cluster, workload, scenario, physics = world
        num_slots = scenario.alive.shape[0]
        prepared = workload.prepare(cluster, scenario, key, num_slots, physics.slot_s)
        tasks = jax.vmap(lambda slot: workload.arrivals(prepared, key, slot))(jnp.arange(num_slots))
        return Recorded(tasks, workload.model_gb, workload.start_hour_utc)

    return worlds._replace(workload=jax.vmap(one)(worlds, keys))


class Shown:
    """A policy that keeps what it is shown."""

    def __init__(self, policy):
        self.policy = policy

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def route(self, state, observation):
        self.observation = observation.replace(cluster=None)
        return self.policy.route(state, observation)


class Story(NamedTuple):
    """All that happened in a slot: [fleet, slot, ...] arrays."""

    metrics: SlotMetrics
    record: SlotRecord
    observation: Observation  # what the policy was shown
    kind_share: jax.Array
    matrix: jax.Array  # the routing in force


@jax.jit
def play(worlds: Fleets, policies) -> tuple[Totals, Story]:
    """Every world under its policy."""

    def one(world: Fleets, policy):
        cluster, workload, scenario, physics = world
        num_slots = scenario.alive.shape[0]
        world_ = make_world(cluster, workload, scenario, jax.random.key(0), num_slots, physics.slot_s)

        def step(run, _):
            shown, kind_share = Shown(policy), run[0].observed.kind_share
            state, totals, metrics, record = run_slot(world_, physics, shown, *run)
            return (state, totals), Story(metrics, record, shown.observation, kind_share, state.matrix)

        (_, totals), story = lax.scan(step, reset(world_, physics, policy), None, length=num_slots)
        return totals, story

    return jax.vmap(one)(worlds, policies)
