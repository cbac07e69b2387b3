"""The paper's decision process (Section V-B2) in the fluid model: an action is a head's latent, the reward Eq 3."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from torta_jax.errors import require
from torta_jax.schedulers import actor
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.networks import ActorCritic
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, Scenario

WARM_UP = 24
"""Slots by the plan alone before an episode begins: every server is on at first, and none stops before the end of the
policy's cool-down (20 slots)."""

START = 17
"""Stream of random numbers, beside the world's own: where in the day an episode begins."""


class Reward(struct.PyTreeNode):
    """Weights of Eq 3; the paper gives none."""

    switching: float = 0.2  # lambda_1
    queue: float = 0.1  # lambda_2


class Params(struct.PyTreeNode):
    """The world and the policy below the matrix."""

    cluster: Cluster
    workload: Any
    scenario: Scenario
    policy: Actor  # its parameters are not used
    physics: Physics = Physics()
    reward: Reward = Reward()
    length: int = struct.field(pytree_node=False, default=60)  # steps of an episode; + WARM_UP: in the scenario


class State(struct.PyTreeNode):
    """An episode under way."""

    world: World
    flows: fluid.Flows
    end: jax.Array  # [] int32


class Routing(NamedTuple):
    """An environment after the contract of gymnax 1.0; episodes end by truncation."""

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """An episode that begins in a random slot of the day, after `WARM_UP` slots by the plan.

        Raises:
            InputError: the scenario is shorter than that.
        """
        slots, needed = params.scenario.alive.shape[0], WARM_UP + params.length
        require(needed <= slots, f"{params.length} slots and {WARM_UP} before them need a day of {needed}, not {slots}")
        world = make_world(params.cluster, params.workload, params.scenario, key, slots, params.physics.slot_s)
        first = jax.random.randint(jax.random.fold_in(key, START), (), 0, slots - needed + 1)
        policy = by_plan(params.policy)
        flows = fluid.reset(world, params.physics, policy).replace(slot=first)
        flows, _ = lax.scan(
            lambda flows, _: (fluid.run_slot(world, params.physics, policy, flows)[0], None), flows, None, WARM_UP
        )
        state = State(world, flows, first + WARM_UP + params.length)
        return self.observation(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params):
        """Run a slot with the matrix of a latent [R, D]."""
        del key
        policy = params.policy.replace(latent=action)
        flows, slot = fluid.run_slot(state.world, params.physics, policy, state.flows)
        plan, matrix, last = flows.policy.plan, flows.matrix, state.flows.matrix
        deviation, change = ((matrix - plan) ** 2).sum(), ((matrix - last) ** 2).sum()
        plan_change = ((plan - state.flows.policy.plan) ** 2).sum()
        queue = queue_share(flows, params)
        reward = -deviation - params.reward.switching * change - params.reward.queue * queue
        state = State(state.world, flows, state.end)
        observation = self.observation(state, params)
        info = {
            "final_observation": observation,
            "deviation": jnp.sqrt(deviation),
            "change": change,
            "plan_change": plan_change,
            "queue": queue,
            "cost": Objective().cost(slot),
            "plan": plan,
            "last": last,
        }
        return observation, state, reward, jnp.zeros((), bool), flows.slot >= state.end, info

    def observation(self, state: State, params: Params) -> jax.Array:
        """What `actor.features` makes of the coming slot."""
        last = params.scenario.alive.shape[0] - 1  # nothing is decided after it, but what is observed then is asked for
        flows = state.flows.replace(slot=jnp.minimum(state.flows.slot, last))
        seen = fluid.observe(flows, state.world, params.physics)
        return actor.features(params.policy.remember(flows.policy, seen), seen)


def queue_share(flows: fluid.Flows, params: Params) -> jax.Array:
    """[] ||Q||_1 / Q_max of Eq 3; Q_max is what the servers that are on can do in a slot."""
    lanes = (flows.on * params.cluster.lane_mask.sum(axis=-2)).sum()
    most = lanes * params.physics.slot_s / flows.service_s.mean()
    return flows.queue.sum() / jnp.maximum(most, 1.0)


def by_plan(policy: Actor) -> Actor:
    """The policy without a network: its matrix is the plan, as that of any reactive method."""
    return policy.replace(head=Plan(), latent=jnp.zeros(()))


def network(params: Params) -> ActorCritic:
    """The paper's networks for the policy's head and cluster."""
    regions = params.cluster.num_regions
    return ActorCritic(regions, params.policy.head.num_raw(regions))


class Plan(NamedTuple):
    """A head whose matrix is the plan."""

    def matrix(self, latent, anchor):
        del latent
        return anchor.plan
