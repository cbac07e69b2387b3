"""PPO: advantages by hand, probe environments whose answers are known, and one standard task."""

from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from torta_jax.learn import ppo
from torta_jax.learn.recipes import Recipe
from torta_jax.learn.train import make_train
from torta_jax.learn.train import train as train_on_host
from torta_jax.schedulers import networks
from torta_jax.schedulers.heads import Gaussian
from torta_jax.types import numbers

KINDS = ("constant", "seen", "delayed", "cut", "act")


class Probe(NamedTuple):
    """A tiny environment; its parameter, an index into KINDS, says what is asked of whom learns it."""

    def reset(self, key, kind):
        del kind
        state = (jnp.zeros(()), jnp.where(jax.random.bernoulli(key), 1.0, -1.0))
        return jnp.stack(state), state

    def step(self, key, state, action, kind):
        del key
        time, sign = state
        no = jnp.zeros((), bool)
        results = {
            # always 1 and over: the value is 1
            "constant": (jnp.ones(()), ~no, no),
            # the sign that was seen: the value is the sign
            "seen": (sign, ~no, no),
            # 1 in the second and last step: the value of the first is the discount
            "delayed": (time, time > 0, no),
            # 1 for ever, cut after every step: the value is 1 / (1 - discount), and 1 if what follows is forgotten
            "cut": (jnp.ones(()), no, ~no),
            # the nearer to the sign, the better: the policy is the sign
            "act": (-((action[0, 0] - sign) ** 2), ~no, no),
        }
        reward, terminated, truncated = (
            jnp.stack(column)[kind] for column in zip(*(results[name] for name in KINDS), strict=True)
        )
        state = (jnp.where(kind == KINDS.index("cut"), time, time + 1), sign)
        final = jnp.stack(state)
        return final, state, reward, terminated, truncated, {"final_observation": final}


class OneNumber(Gaussian):
    """One real number."""


NETWORK = networks.ActorCritic(1, 2, (32, 32))
SIZES = ppo.Sizes(num_envs=16, num_steps=16, epochs=4, minibatches=4)
NUMBERS = ppo.Numbers(learning_rate=3e-3, decay=0.99, discount=0.5, trace=0.9, entropy_weight=0.1)


@jax.jit
def train(kind):
    """Parameters and logs of 200 updates."""
    learner = ppo.Learner(ppo.AutoReset(Probe()), kind, NETWORK, OneNumber(initial_std=1.0), SIZES)
    start = learner.init(jax.random.key(0))
    state, log = jax.lax.scan(lambda state, _: learner.update(state, NUMBERS), start, None, length=200)
    return state.parameters, log


def trained(kind: str):
    """The network that has learned, as a function of time and sign."""
    parameters, log = train(KINDS.index(kind))
    return lambda *seen: NETWORK.apply(parameters, jnp.asarray(seen, float)), log


def test_the_value_of_a_constant_reward_is_learned():
    network, _ = trained("constant")
    assert network(0.0, 1.0)[1] == pytest.approx(1.0, abs=0.1)


def test_the_value_depends_on_what_is_seen():
    network, _ = trained("seen")
    assert network(0.0, 1.0)[1] == pytest.approx(1.0, abs=0.1)
    assert network(0.0, -1.0)[1] == pytest.approx(-1.0, abs=0.1)


def test_the_value_of_a_later_reward_is_discounted():
    network, _ = trained("delayed")
    assert network(0.0, 1.0)[1] == pytest.approx(0.5, abs=0.1)
    assert network(1.0, 1.0)[1] == pytest.approx(1.0, abs=0.1)


def test_what_follows_a_truncation_counts():
    network, _ = trained("cut")
    assert network(0.0, 1.0)[1] == pytest.approx(2.0, abs=0.1)


def test_the_policy_that_pays_is_learned():
    network, log = trained("act")
    assert network(0.0, 1.0)[0][0, 0] == pytest.approx(1.0, abs=0.05)
    assert network(0.0, -1.0)[0][0, 0] == pytest.approx(-1.0, abs=0.05)
    assert log["reward"][-1] > log["reward"][0]


def by_hand(reward, value, next_value, terminated, ended, discount, trace):
    """Generalised advantages as the sums that define them."""
    steps = len(reward)
    error = [reward[t] + discount * (0 if terminated[t] else next_value[t]) - value[t] for t in range(steps)]
    result = []
    for t in range(steps):
        total, weight = 0.0, 1.0
        for k in range(t, steps):
            total += weight * error[k]
            if ended[k]:
                break
            weight *= discount * trace
        result.append(total)
    return result


@pytest.mark.parametrize(("max_kl", "used"), [(-1.0, 0), (0.0, 1), (1e6, 16)])
def test_an_update_ends_with_the_first_minibatch_on_which_the_policy_has_moved_too_far(max_kl, used):
    """Before the first it has not moved at all; one that is not used leaves the weights as they are."""
    learner = ppo.Learner(ppo.AutoReset(Probe()), jnp.int32(KINDS.index("act")), NETWORK, OneNumber(), SIZES)
    state = jax.jit(learner.init)(jax.random.key(0))
    new, log = jax.jit(learner.update)(state, numbers(NUMBERS.replace(max_kl=max_kl)))
    assert float(log["used"]) * SIZES.epochs * SIZES.minibatches == pytest.approx(used)
    moved = optax.tree.norm(optax.tree.sub(new.parameters, state.parameters))
    assert (moved > 0) == (used > 0)


@pytest.mark.parametrize("trace", [0.0, 0.9, 1.0])
def test_advantages_are_the_sums_that_define_them(trace):
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 40))
    terminated = rng.random(40) < 0.1
    ended = terminated | (rng.random(40) < 0.1)
    arrays = [jnp.asarray(x) for x in (reward, value, next_value, terminated, ended)]
    found = ppo.advantages(*arrays, discount=0.97, trace=trace)
    expected = by_hand(reward, value, next_value, terminated, ended, 0.97, trace)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_training_in_one_piece_is_that_of_the_host_for_many_seeds_and_numbers_at_once():
    learner = ppo.Learner(ppo.AutoReset(Probe()), KINDS.index("act"), NETWORK, OneNumber(initial_std=1.0), SIZES)
    recipe = Recipe(learner, jax.jit(learner.update), numbers(NUMBERS), lambda state: state.parameters, {})
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    several = jax.vmap(lambda rate: recipe.numbers.replace(learning_rate=rate))(jnp.asarray([3e-3, 1e-3, 3e-3]))
    _, log = jax.jit(jax.vmap(make_train(recipe, 4)))(keys, several)
    by_host = train_on_host(recipe.update, recipe.numbers, jax.jit(learner.init)(jax.random.key(2)), 4)
    np.testing.assert_allclose(log["reward"][2], [row["reward"] for row in by_host.log], rtol=1e-3)
    assert len(np.unique(log["reward"][:, -1])) == 3


class Pendulum(NamedTuple):
    """Pendulum-v1 of gymnax, with a tenth of its reward and a latent of half its torque."""

    env: Any

    def reset(self, key, params):
        return self.env.reset(key, params)

    def step(self, key, state, action, params):
        *seen, reward, terminated, truncated, info = self.env.step(key, state, 2 * action[0], params)
        return *seen, reward / 10, terminated, truncated, {"final_observation": info["final_observation"]}


def test_a_pendulum_is_swung_up_and_held():
    """A return of -200 counts as solved; that of the best known policies is about -150."""
    env, params = gymnax.make("Pendulum-v1")
    network, head = networks.ActorCritic(1, 2, (64, 64)), OneNumber(initial_std=1.0)
    sizes = ppo.Sizes(num_envs=32, num_steps=100, epochs=10, minibatches=8)
    settings = ppo.Numbers(learning_rate=1e-3, discount=0.95, max_kl=0.1)
    learner = ppo.Learner(Pendulum(env), params, network, head, sizes)
    recipe = Recipe(learner, learner.update, settings, lambda state: state.parameters, {})
    train = make_train(recipe, 100)
    parameters = jax.jit(train)(jax.random.key(0))[0].parameters

    def play(key):
        def step(seen, _):
            latent = head.mean(network.apply(parameters, seen[0])[0])
            *seen, reward, _, _, _ = env.step(key, seen[1], 2 * latent[0], params)
            return tuple(seen), reward

        return jax.lax.scan(step, env.reset(key, params), None, params.max_steps_in_episode)[1].sum()

    returns = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(9), 200))
    assert returns.mean() > -200
