"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347; Eq 4) as pure functions of a training state.

An environment follows gymnax 1.0: `reset(key, params)` gives an observation and a state, `step(key, state, action,
params)` gives observation, state, reward, terminated, truncated and info with `final_observation`. Truncation is told
apart from termination: the value of what follows a cut-off episode counts, that of an end does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from torta_jax.workload import draws

RESET, DRAW, STEP, SHUFFLE, PARAMETERS = range(5)
"""Streams of random numbers."""

ADAM = optax.scale_by_adam(eps=1e-5)


@dataclass(frozen=True)
class Sizes:
    """What a compiled update is made for."""

    num_envs: int = 64
    num_steps: int = 60  # per environment and update
    epochs: int = 4
    minibatches: int = 4
    episode_updates: int = 0  # all environments are reset every so many updates; 0: they reset themselves (`AutoReset`)


class Numbers(struct.PyTreeNode):
    """Traced, so that a sweep over them is one `vmap`."""

    learning_rate: float = 3e-4
    decay: float = 1.0  # of the learning rate, per 100 episodes
    discount: float = 0.99
    trace: float = 0.95  # lambda of generalised advantages
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    max_grad_norm: float = 0.5
    max_kl: float = 0.05  # per row; an update ends with the first minibatch on which the policy has moved farther


class Training(struct.PyTreeNode):
    """Everything that training carries from update to update."""

    parameters: Any
    optimiser: Any
    env: Any  # [num_envs] states
    observation: Any  # [num_envs]
    multipliers: Any  # of a penalty, any pytree
    episodes: jax.Array  # [] int32, episodes that have ended
    updates: jax.Array  # [] int32
    key: jax.Array


class Step(NamedTuple):
    """One step of one environment."""

    observation: Any
    latent: jax.Array
    log_prob: jax.Array  # [rows]
    value: jax.Array
    reward: jax.Array
    next_value: jax.Array  # of the observation that followed, before any reset
    terminated: jax.Array
    ended: jax.Array  # terminated or truncated
    info: Any


class AutoReset(NamedTuple):
    """An environment whose episodes begin anew where they ended."""

    env: Any

    def reset(self, key, params):
        return self.env.reset(key, params)

    def step(self, key, state, action, params):
        observation, state, reward, terminated, truncated, info = self.env.step(key, state, action, params)
        fresh = self.env.reset(jax.random.fold_in(key, RESET), params)
        ended = terminated | truncated
        info = info | {"final_observation": observation}
        observation, state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, (observation, state))
        return observation, state, reward, terminated, truncated, info


def advantages(reward, value, next_value, terminated, ended, discount, trace) -> jax.Array:
    """Generalised advantages (Schulman et al., arXiv 1506.02438), [T, ...] from [T, ...]."""
    error = reward + discount * jnp.where(terminated, 0.0, next_value) - value

    def back(later, now):
        error, ended = now
        later = error + discount * trace * jnp.where(ended, 0.0, later)
        return later, later

    return lax.scan(back, jnp.zeros_like(error[0]), (error, ended), reverse=True)[1]


class Penalty(NamedTuple):
    """Constraints added to the loss (Eq 5).

    `loss(multipliers, raw, step)` takes a minibatch and gives a scalar; `update(multipliers, measured)` makes the next
    multipliers of `measure(multipliers, steps, states)`, a dict of scalars over the whole rollout and the
    environments' states after it.
    """

    multipliers: Any
    loss: Callable[[Any, jax.Array, Step], jax.Array]
    measure: Callable[[Any, Step, Any], dict[str, jax.Array]]
    update: Callable[[Any, dict[str, jax.Array]], Any]


NO_PENALTY = Penalty((), lambda *minibatch: jnp.zeros(()), lambda *rollout: {}, lambda *measured: ())


class Learner(NamedTuple):
    """PPO for one environment, network and head; every method is pure."""

    env: Any
    params: Any  # of the environment
    network: Any  # a flax module: observation -> raw numbers [rows, K], value []
    head: Any  # `heads.Head`: draw, mean, log_prob, entropy
    sizes: Sizes = Sizes()
    penalty: Penalty = NO_PENALTY

    def init(self, key: jax.Array) -> Training:
        """The state before the first update."""
        observation, env = self._reset(key, 0)
        one = jax.tree.map(lambda x: x[0], observation)
        parameters = self.network.init(jax.random.fold_in(key, PARAMETERS), one)
        return Training(
            parameters=parameters,
            optimiser=ADAM.init(parameters),
            env=env,
            observation=observation,
            multipliers=self.penalty.multipliers,
            episodes=jnp.int32(0),
            updates=jnp.int32(0),
            key=key,
        )

    def update(self, state: Training, numbers: Numbers) -> tuple[Training, dict[str, jax.Array]]:
        """One rollout and the epochs on it; the second part is what to log."""
        if self.sizes.episode_updates:
            fresh = state.updates % self.sizes.episode_updates == 0
            again = lambda: self._reset(state.key, state.updates)  # noqa: E731
            observation, env = lax.cond(fresh, again, lambda: (state.observation, state.env))
            state = state.replace(observation=observation, env=env)
        state, steps = self._rollout(state)
        gained = advantages(
            steps.reward,
            steps.value,
            steps.next_value,
            steps.terminated,
            steps.ended,
            numbers.discount,
            numbers.trace,
        )
        rate = numbers.learning_rate * numbers.decay ** (state.episodes // 100)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (steps, gained, gained + steps.value))
        parameters, optimiser, losses = self._learn(state, flat, numbers, rate)
        seen = self.penalty.measure(state.multipliers, steps, state.env)
        state = state.replace(
            parameters=parameters,
            optimiser=optimiser,
            multipliers=self.penalty.update(state.multipliers, seen),
            episodes=state.episodes + steps.ended.sum(dtype=jnp.int32),
            updates=state.updates + 1,
        )
        target = gained + steps.value
        explained = 1 - (target - steps.value).var() / jnp.maximum(target.var(), 1e-12)
        log = {"reward": steps.reward.mean(), "explained_variance": explained, "learning_rate": rate}
        return state, log | losses | seen

    def _reset(self, key, update):
        keys = self._keys(key, RESET, update)
        return jax.vmap(self.env.reset, in_axes=(0, None))(keys, self.params)

    def _keys(self, key, stream, *when):
        """[num_envs] keys of a stream at a time; by identity of the environment."""
        return draws.fold_each(draws.fold(key, stream, *when), jnp.arange(self.sizes.num_envs))

    def _rollout(self, state: Training) -> tuple[Training, Step]:
        """[num_steps, num_envs] steps under the present policy."""
        apply = jax.vmap(self.network.apply, in_axes=(None, 0))

        def one(carry, t):
            observation, env = carry
            raw, value = apply(state.parameters, observation)
            draw, go = (self._keys(state.key, stream, state.updates, t) for stream in (DRAW, STEP))
            latent = jax.vmap(self.head.draw)(draw, raw)
            log_prob = jax.vmap(self.head.log_prob)(raw, latent)
            stepped = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))(go, env, latent, self.params)
            following, env, reward, terminated, truncated, info = stepped
            info = dict(info)
            next_value = apply(state.parameters, info.pop("final_observation"))[1]
            ended = terminated | truncated
            step = Step(observation, latent, log_prob, value, reward, next_value, terminated, ended, info)
            return (following, env), step

        (observation, env), steps = lax.scan(one, (state.observation, state.env), jnp.arange(self.sizes.num_steps))
        return state.replace(observation=observation, env=env), steps

    def _learn(self, state: Training, flat, numbers: Numbers, rate):
        """Epochs of shuffled minibatches; returns parameters, optimiser state and mean losses of those learned from."""
        count, sizes = self.sizes.num_envs * self.sizes.num_steps, self.sizes
        key = jax.random.fold_in(jax.random.fold_in(state.key, SHUFFLE), state.updates)

        def minibatch(carry, rows):
            parameters, optimiser, going = carry
            batch = jax.tree.map(lambda x: x[rows], flat)
            slope, losses = jax.grad(self._loss, has_aux=True)(parameters, batch, state.multipliers, numbers)
            norm = optax.tree.norm(slope)
            slope = optax.tree.scale(jnp.minimum(1, numbers.max_grad_norm / jnp.maximum(norm, 1e-12)), slope)
            change, moved = ADAM.update(slope, optimiser)
            going &= losses["kl"] <= numbers.max_kl
            new = (jax.tree.map(lambda p, c: p - rate * c, parameters, change), moved)
            parameters, optimiser = jax.tree.map(lambda n, o: jnp.where(going, n, o), new, (parameters, optimiser))
            return (parameters, optimiser, going), (losses | {"gradient_norm": norm}, going.astype(float))

        orders = jax.vmap(lambda key: jax.random.permutation(key, count))
        rows = orders(draws.fold_each(key, jnp.arange(sizes.epochs))).reshape(sizes.epochs * sizes.minibatches, -1)
        start = (state.parameters, state.optimiser, jnp.ones((), bool))
        (parameters, optimiser, _), (losses, used) = lax.scan(minibatch, start, rows)
        mean = jax.tree.map(lambda each: jnp.where(used > 0, each, 0.0).sum() / jnp.maximum(used.sum(), 1.0), losses)
        return parameters, optimiser, mean | {"used": used.mean()}

    def _loss(self, parameters, batch, multipliers, numbers: Numbers):
        step, gained, target = batch
        raw, value = jax.vmap(self.network.apply, in_axes=(None, 0))(parameters, step.observation)
        gained = ((gained - gained.mean()) / (gained.std() + 1e-8))[:, None]
        change = jax.vmap(self.head.log_prob)(raw, step.latent) - step.log_prob
        ratio = jnp.exp(change)
        clipped = jnp.clip(ratio, 1 - numbers.clip, 1 + numbers.clip)
        policy = -jnp.minimum(ratio * gained, clipped * gained).mean()
        error = 0.5 * ((value - target) ** 2).mean()
        entropy = jax.vmap(self.head.entropy)(raw).mean()
        penalty = self.penalty.loss(multipliers, raw, step)
        loss = policy + numbers.value_weight * error - numbers.entropy_weight * entropy + penalty
        losses = {
            "policy_loss": policy,
            "value_loss": error,
            "entropy": entropy,
            "penalty": penalty,
            "kl": (ratio - 1 - change).mean(),  # Schulman's low-variance estimate
            "clip_fraction": (jnp.abs(ratio - 1) > numbers.clip).mean(),
        }
        return loss, losses
