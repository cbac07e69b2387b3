"""The simulator as a reinforcement-learning environment, after the contract of gymnax 1.0.

An action is the routing matrix of the coming slot; everything below it (scaling, matching) is done by a scheduler.
Episodes have a fixed length, so they end by truncation and never terminate, and nothing resets inside `step`:
a batch of clusters is reset in lock-step, outside the scan.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.errors import require
from torta_jax.sim.account import Totals
from torta_jax.sim.fluid import FlowMetrics
from torta_jax.sim.metrics import SlotMetrics
from torta_jax.sim.observe import observe
from torta_jax.sim.slot import World, make_world, price_now, reset, run_slot
from torta_jax.sim.state import Physics, State
from torta_jax.types import Cluster, Scenario


class Objective(struct.PyTreeNode):
    """Eq 1 per task, in seconds: what the reward charges for."""

    power_s_per_usd: float = 45_000.0  # 45 s per thousandth of a dollar (docs/decisions.md)
    warmup_weight: float = 0.3  # per second of server warm-up
    switching_weight: float = 0.05  # per unit of ||A_t - A_{t-1}||_F^2
    drop_charge_s: float = 150.0  # a free drop would be exploited by any learner

    def cost(self, metrics: SlotMetrics | FlowMetrics) -> jax.Array:
        """Seconds per arriving task that a slot cost."""
        seconds = (
            metrics.response_s
            + self.drop_charge_s * metrics.dropped.sum(axis=-1)
            + self.power_s_per_usd * metrics.power_cost_usd
            + self.warmup_weight * metrics.warmup_s
        )
        return seconds / jnp.maximum(metrics.arrived, 1) + self.switching_weight * metrics.switching_cost


class EnvParams(struct.PyTreeNode):
    """The world, the policy below the routing matrix, and the objective."""

    cluster: Cluster
    workload: Any
    scenario: Scenario
    scheduler: Any
    physics: Physics | None = None  # default: as for `simulate`
    objective: Objective = Objective()

    def sized(self) -> Physics:
        """The physics, with room for this fleet and workload where none was given."""
        return self.physics or Physics().sized(self.cluster, self.workload.max_tasks)


class EnvState(struct.PyTreeNode):
    """An episode under way."""

    world: World
    state: State
    totals: Totals


class Env:
    """Routing as a Markov decision process (Section V-B2). Every method is pure; vmap and jit them freely."""

    def reset(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, EnvState]:
        """A fresh episode; the key decides the arrivals.

        Returns:
            The observation (see `observation`) and the state.
        """
        num_slots = params.scenario.alive.shape[0]
        world = make_world(params.cluster, params.workload, params.scenario, key, num_slots, params.sized().slot_s)
        state = EnvState(world, *reset(world, params.sized(), params.scheduler))
        return self.observation(state, params), state

    def step(self, key: jax.Array, state: EnvState, action: jax.Array, params: EnvParams):
        """Run one slot.

        Args:
            key: unused; the world's luck is fixed by the key of `reset`, the same for every policy.
            action: [R, R] non-negative; rows are normalised, an empty row keeps its tasks at home.

        Returns:
            observation, state, reward [], terminated [] (always False), truncated [] (the scenario is over) and
            info: the slot's `metrics`, and `final_observation`, equal to the observation since nothing resets.

        Raises:
            InputError: an action of another shape.
        """
        del key
        shape = self.action_shape(params)
        require(jnp.shape(action) == shape, f"action: a matrix {shape} is needed, its shape is {jnp.shape(action)}")
        matrix = jnp.maximum(action, 0.0)
        total = matrix.sum(axis=-1, keepdims=True)
        matrix = jnp.where(total > 0, matrix / jnp.maximum(total, 1e-9), jnp.eye(matrix.shape[-1]))
        after, totals, metrics, _ = run_slot(
            state.world, params.sized(), params.scheduler, state.state, state.totals, matrix=matrix
        )
        state = EnvState(state.world, after, totals)
        observation = self.observation(state, params)
        truncated = after.slot >= params.scenario.alive.shape[0]
        info = {"metrics": metrics, "final_observation": observation}
        reward = -params.objective.cost(metrics)
        return observation, state, reward, jnp.zeros((), bool), truncated, info

    def observation(self, state: EnvState, params: EnvParams) -> jax.Array:
        """[5R + 2R²]: utilisation, waiting, arrivals, capacity (tasks per slot), price; latency, last matrix."""
        world = state.world
        last = params.scenario.alive.shape[0] - 1
        slot = jnp.minimum(state.state.slot, last)
        price = price_now(world, slot, params.sized().slot_s)
        seen = observe(state.state, world.cluster, params.sized(), params.scenario.alive[slot], price)
        parts = (seen.utilisation, seen.waiting, seen.arrivals, seen.capacity(), price)
        parts += (world.cluster.latency_s.ravel(), seen.matrix.ravel())
        return jnp.concatenate([jnp.asarray(part, float) for part in parts])

    def action_shape(self, params: EnvParams) -> tuple[int, int]:
        """(R, R)."""
        regions = params.cluster.num_regions
        return regions, regions
