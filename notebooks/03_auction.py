# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The auction
#
# Tasks to servers, each server with room for several, and tasks may stay outside. `torta_jax.auction` finds the best
# matching within epsilon, exactly for integers, and `torta_jax.soft` a good one in a fixed number of steps. Both say how far
# from the best they can be at most. Here they meet the exact optimum of SciPy.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

import torta_jax as tj

TOY = "TORTA_NOTEBOOK_TOY" in os.environ
TASKS, SERVERS, BATCH = (24, 8, 4) if TOY else (64, 16, 64)

# %% [markdown]
# ## Problems
#
# Five types of tasks meet four types of servers; some servers know a task's model already. There are exactly as many places as
# tasks, which is the hardest load.


# %%
def problem(key):
    keys = jax.random.split(key, 4)
    match = jax.random.uniform(keys[0], (5, 4), minval=0.2)
    task = jax.random.randint(keys[1], (TASKS,), 0, 5)
    server = jax.random.randint(keys[2], (SERVERS,), 0, 4)
    known = 0.3 * (jax.random.uniform(keys[3], (TASKS, SERVERS)) < 0.2)
    return jnp.round(1000 * (match[task][:, server] + known)).astype(int)


values = jax.vmap(problem)(jax.random.split(jax.random.key(0), BATCH))
room = jnp.full(SERVERS, TASKS // SERVERS)


def optimum(value):
    table = np.repeat(np.asarray(value), TASKS // SERVERS, axis=1)
    return table[linear_sum_assignment(table, maximize=True)].sum()


best = np.array([optimum(value) for value in values])

# %% [markdown]
# ## Against the exact optimum
#
# `vmap` solves the batch at once. `dual_value` is a bound that no matching exceeds: for integers it meets the value, which
# proves the matching to be the best.

# %%
solvers = {
    "auction, integers": (tj.auction.solve, values),
    "auction, floats": (tj.auction.solve, values.astype(float)),
    "soft prices, regret": (tj.soft.solve, values.astype(float)),
}
found = {name: jax.vmap(lambda value, solve=solve: solve(value, room))(each) for name, (solve, each) in solvers.items()}
for name, matching in found.items():
    gap, certified = 1 - matching.value / best, (matching.dual_value - matching.value) / best
    print(f"{name:20} gap: mean {gap.mean():.4%}, worst {gap.max():.4%}; certified: worst {certified.max():.4%}")
    print(f"{'':20} rounds: mean {matching.rounds.mean():.1f}, most {matching.rounds.max()}")

# %% [markdown]
# ## Prices
#
# The price of a place is what the task that is next in line would pay for it. Servers that are not full cost nothing. Prices
# start a similar problem: here some values change a little, and fewer rounds are needed than from nothing.

# %%
value = values[0].astype(float)
plain = tj.auction.solve(value, room, init_price=jnp.zeros(SERVERS))
changed = value + 5 * jax.random.normal(jax.random.key(1), value.shape)
cold = tj.auction.solve(changed, room, init_price=jnp.zeros(SERVERS))
warm = tj.auction.solve(changed, room, init_price=plain.price)
print(f"rounds: from nothing {cold.rounds}, from the last prices {warm.rounds}")
print(f"values: {cold.value:.0f} and {warm.value:.0f}, at most {cold.dual_value:.0f} and {warm.dual_value:.0f}")

# %% [markdown]
# ## More tasks than places
#
# Below one task a place nearly all are free. Beyond it places grow dear, and whom they are worth least to stays outside.

# %%
loads = np.array([0.5, 1.0, 2.0]) if TOY else np.linspace(0.25, 2.5, 10)
masks = jnp.asarray([np.arange(TASKS) < round(TASKS * load / 2.5) for load in loads])
scarce = jnp.full(SERVERS, max(1, round(TASKS / 2.5 / SERVERS)))
crowd = jax.vmap(lambda mask: tj.auction.solve(value, scarce, task_mask=mask))(masks)
figure, axes = plt.subplots(figsize=(7, 3.5))
axes.plot(masks.sum(axis=1) / scarce.sum(), crowd.price.mean(axis=1), marker="o")
axes.set_xlabel("tasks per place")
axes.set_ylabel("mean price of a place")
figure.tight_layout()

# %% [markdown]
# ## When the budget is spent
#
# Bidding stops after `max_rounds`. Who is undecided then stays out, the status is 1, and the bound still holds.

# %%
short = tj.auction.solve(value, room, init_price=jnp.zeros(SERVERS), max_rounds=5)
print(f"status {short.status}, {int((short.server < 0).sum())} undecided, value {short.value:.0f} of at most {short.dual_value:.0f}")
