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
# # Transport with capacities
#
# Which region's requests should be served where? `torta_jax.sinkhorn` answers with plain arrays and no simulator: a plan,
# what another unit of each capacity would be worth, and a bound that says how good the plan is.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import torta_jax as tj

TOY = "TORTA_NOTEBOOK_TOY" in os.environ
abilene = tj.cluster.build("abilene")
latency_ms = 1e3 * abilene.latency_s
price = abilene.price_usd_per_kwh[:, 0]
demand = 100 * abilene.demand_share
capacity = jnp.full(12, 100 / 12 / 0.7)  # 70 % of it is needed

# %% [markdown]
# ## Price enters, the plan moves
#
# The cost of a pair is its latency plus `weight` times the electricity price of where it is served, each over its mean. With
# capacity as an upper bound (`capacitated`) requests leave for cheap regions as the weight grows. With equal shares
# (`balanced`, the paper's Eq 2) the plan cannot move: every region is given the same work whatever it costs.

# %%
weights = np.linspace(0, 4, 3 if TOY else 17)


def cost_of(weight):
    return latency_ms / latency_ms.mean() + weight * price / price.mean()


def average_price(plan):
    return (plan.plan.sum(axis=0) * price).sum() / plan.plan.sum()


figure, axes = plt.subplots(figsize=(7, 3.5))
for solve in (tj.sinkhorn.capacitated, tj.sinkhorn.balanced):
    plans = jax.vmap(lambda weight, solve=solve: solve(cost_of(weight), demand, capacity))(jnp.asarray(weights))
    axes.plot(weights, jax.vmap(average_price)(plans), label=solve.__name__)
    print(f"{solve.__name__:12} converged: {bool((plans.status == 0).all())}")
axes.set_xlabel("weight of the price")
axes.set_ylabel("price paid, USD/kWh")
axes.legend()
figure.tight_layout()

# %% [markdown]
# ## How good is the plan?
#
# Entropy spreads a plan a little. `lower_bound` is what no plan within the capacities can undercut, so `value - lower_bound`
# is at most what the entropy costs. Less of it (`epsilon`, a share of the mean cost) is sharper; the default budget follows.

# %%
for epsilon in (0.2, 0.05, 0.01, 0.003):
    plan = tj.sinkhorn.capacitated(cost_of(1.0), demand, capacity, epsilon=epsilon)
    gap = (plan.value - plan.lower_bound) / plan.lower_bound
    print(f"epsilon {epsilon:5}: cost {plan.value:6.2f}, at most {gap:7.3%} above the best")
    print(f"               sent beyond capacities: {plan.capacity_violation:.0e} of the demand")

# %% [markdown]
# ## Shadow prices are gradients
#
# `price` says what one more unit of a region's capacity would save. It is the gradient of `objective`, the cost with its
# entropy, and so is the plan: both come from one solve. Gradients of anything else made of a plan go through the solver, too:
# here how the cost of the plan answers to the capacity of the first region, against a finite difference.

# %%
cost = cost_of(1.0)
plan = tj.sinkhorn.capacitated(cost, demand, capacity)
slope = jax.grad(lambda capacity: tj.sinkhorn.capacitated(cost, demand, capacity).objective)(capacity)
print("largest difference between price and gradient:", float(jnp.abs(slope + plan.price).max()))

binding = int(jnp.argmax(plan.price))
with jax.enable_x64(True):  # differences need more digits than gradients
    exact = [jnp.asarray(x, float) for x in (cost, demand, capacity)]

    def value(more):
        return tj.sinkhorn.capacitated(*exact[:2], exact[2].at[binding].add(more), newton_iters=20).value

    by_gradient, by_difference = jax.grad(value)(0.0), (value(1e-4) - value(-1e-4)) / 2e-4
print(f"region {binding}: one more unit of capacity changes the cost by {by_gradient:.6f} ({by_difference:.6f})")

# %% [markdown]
# ## Forbidden pairs
#
# Data that must stay on one side of the country: a mask. Where it leaves demand without a place, that demand is `buffered`
# and the status says 2, infeasible; `tj.rounding.feasible` makes any plan keep to all bounds to the last digit.

# %%
west = np.asarray(abilene.utc_offset_h) < -6.5
mask = west[:, None] == west
dear = cost_of(3.0)
free = tj.sinkhorn.capacitated(dear, demand, capacity, epsilon=0.003)
apart = tj.sinkhorn.capacitated(dear, demand, capacity, epsilon=0.003, mask=mask)
print(f"free: {free.value:.2f}, apart: {apart.value:.2f}, buffered {apart.buffered.sum():.2f}, status {apart.status}")
kept = tj.rounding.feasible(apart.plan, demand, capacity, mask=mask)
print("mass across:", float(jnp.where(mask, 0, kept).sum()))
