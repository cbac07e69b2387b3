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
# # Learning
#
# `torta train torta` trains a network on top of `torta` through a model of the slot in which tasks are flows and every step has a
# slope. Here the same training is one function of a key and some numbers, so that `vmap` runs several seeds and learning rates
# at once. It is a small training on small clusters: the weights that come with the package saw some twenty-five times as many.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import torta_jax as tj
from torta_jax.learn import recipes, train

TOY = "TORTA_NOTEBOOK_TOY" in os.environ
UPDATES, WORLDS, SLOTS, REGIONS = (2, 2, 6, 3) if TOY else (60, 8, 40, 6)
RATES = [1e-3, 3e-3]

# %% [markdown]
# ## One training, four times
#
# A recipe has the learner and its numbers. `make_train` makes of it a function from a key to the trained state and the log; the
# numbers are traced, so another learning rate compiles nothing.

# %%
recipe = recipes.torta(
    updates=UPDATES, worlds=WORLDS, slots=SLOTS, regions=REGIONS, servers=8, kinds=("calm", "hard"), learning_rate=1e-3
)
keys = jax.vmap(jax.random.key)(jnp.asarray([0, 1, 0, 1]))
rates = jnp.repeat(jnp.asarray(RATES), 2)
numbers = jax.vmap(lambda rate: recipe.numbers.replace(learning_rate=rate))(rates)
states, log = jax.jit(jax.vmap(train.make_train(recipe, UPDATES)))(keys, numbers)
print({name: column.shape for name, column in log.items()})

# %% [markdown]
# ## What it learned
#
# Every update meets new random clusters, so the cost jumps about; now and then one of them is too full for any policy and
# outweighs the others. The same seed meets the same clusters at either rate, so rates are compared seed by seed.

# %%
width = max(1, UPDATES // 6)
figure, axes = plt.subplots(figsize=(7, 3.5))
for cost, rate, seed in zip(np.asarray(log["cost"]), rates, [0, 1, 0, 1], strict=True):
    smooth = np.convolve(cost, np.ones(width) / width, mode="valid")
    axes.plot(np.arange(width, UPDATES + 1), smooth, label=f"rate {rate:g}, seed {seed}")
axes.set_xlabel("update")
axes.set_ylabel("cost (s per task)")
axes.legend()
figure.tight_layout()

# %% [markdown]
# ## Held against tasks
#
# The network serves any number of regions. Abilene has twelve, was not among the clusters, and here tasks are tasks.

# %%
torta = tj.schedulers.get("torta")
learned = tj.schedulers.Learned(**vars(torta), parameters=jax.tree.map(lambda x: x[0], states.parameters))
abilene, slots = tj.cluster.build("abilene"), 4 if TOY else 80
calm, workload = tj.workload.calm(slots, abilene.num_regions), tj.workload.Synthetic.create()
for name, policy in {"torta": torta, "this training": learned, "the package's": tj.schedulers.get("torta-learned")}.items():
    run = jax.jit(lambda policy: tj.simulate(abilene, workload, policy, jax.random.key(9), scenario=calm)[1])
    metrics = run(policy)
    response = metrics.response_s.sum() / metrics.completed.sum()
    print(f"{name:14} {response:.2f} s per task, ${metrics.power_cost_usd.sum():.2f}, {int(metrics.dropped.sum())} dropped")

# %% [markdown]
# What a difference is worth takes more clusters, more seeds and intervals: `python -m experiments.generalise`.
