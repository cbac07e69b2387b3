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
# # A first fleet
#
# A GPU fleet in twelve regions serves language models. This notebook builds it, runs two policies in the same worlds,
# calls the optimal-transport solver on plain arrays, and writes a policy of its own.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import numpy as np

import torta_jax as tj
from torta_jax.evaluate.compare import paired
from torta_jax.evaluate.episode import measures
from torta_jax.evaluate.rollout import evaluate
from torta_jax.plots.timeline import queue_and_servers

TOY = "TORTA_NOTEBOOK_TOY" in os.environ  # a quick pass, for the tests
SLOTS, SEEDS = (60, 4) if TOY else (120, 8)

# %% [markdown]
# ## The fleet
#
# Abilene has twelve nodes with real distances and electricity prices. A cluster is a pytree of arrays `[R, S]`: regions
# times servers. The workload says what arrives, the scenario what happens to the world (here: nothing).

# %%
network = tj.cluster.load("abilene")
abilene = tj.cluster.build(network)
arrivals = tj.workload.Synthetic.create()
calm = tj.workload.calm(SLOTS, abilene.num_regions)

price = np.asarray(abilene.price_usd_per_kwh).mean(axis=1)
for name, servers, usd in zip(network.nodes, abilene.server_mask.sum(axis=1), price, strict=True):
    print(f"{name:16} {servers:3d} servers  {usd:.3f} $/kWh")

# %% [markdown]
# ## One run
#
# `simulate` is a pure function: one cluster, one key, one compiled scan over slots of 45 s. `jit` it, `vmap` it.

# %%
run, slots = jax.jit(tj.simulate)(abilene, arrivals, tj.schedulers.get("torta"), jax.random.key(0), scenario=calm)
completed = slots.completed.sum()
print(f"{completed} tasks completed, mean response {slots.response_s.sum() / completed:.1f} s")

# %% [markdown]
# ## Two policies, the same worlds
#
# `evaluate` runs every policy once per seed. A seed is a world: all policies meet the same arrivals, so differences are
# paired, which makes their intervals narrow.

# %%
policies = {name: tj.schedulers.get(name) for name in ("skylb", "torta")}
episodes = evaluate(abilene, arrivals, calm, policies, SEEDS, SLOTS)


def report(episodes):
    measured = {name: measures(episode) for name, episode in episodes.items()}
    for name, differences in paired(measured, reference="skylb").items():
        for metric in ("response_s", "power_cost_usd"):
            d = differences[metric]
            print(f"{name:12} {metric:15} {d.difference:+7.2f}  [{d.low:+.2f}, {d.high:+.2f}] against skylb")


report(episodes)

# %%
waiting = {name: (e.slots.queued + e.slots.buffered).mean(axis=0) for name, e in episodes.items()}
servers = {name: e.slots.active_servers.mean(axis=0) for name, e in episodes.items()}
queue_and_servers(waiting, servers, slot_s=45.0)

# %% [markdown]
# ## The solver alone
#
# Three regions, 30 tasks each. What does a dearer region 0 change? In the paper's balanced transport (Eq 2) each region
# receives its share of the capacity whatever it costs: the price of a column is added to all its entries and cancels.
# With capacity as an upper bound there is room to choose, and tasks leave region 0.

# %%
demand, capacity = jnp.full(3, 30.0), jnp.full(3, 60.0)
latency = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])

for solve in (tj.sinkhorn.balanced, tj.sinkhorn.capacitated):
    for price in (0.0, 2.0):
        cost = latency + jnp.array([price, 0.0, 0.0])
        received = solve(cost, demand, capacity, epsilon=0.1).plan.sum(axis=0)
        print(f"{solve.__name__:12} price {price}: received {np.round(received, 1)}")

# %% [markdown]
# ## A policy of your own
#
# A policy is a pytree with a few pure functions. `Rules` has all of them; override what you want to change. This one
# sends tasks to regions that are near and have room, in proportion to both, and prefers servers that hold the model.
# The rest (forecast, activation, overflow) it takes from `torta`. Its numbers are leaves of the pytree, so that a sweep
# over them is one `vmap`.


# %%
class NearAndFree(tj.schedulers.Rules):
    """Route in proportion to nearness and free capacity; among servers the earliest finish, with a bonus for memory."""

    reach_s: float = 0.01  # latency at which a region counts a third
    bonus_s: float = 2.0  # how much later a server that holds the model may finish

    def route(self, state, observation):
        state = self.look_ahead(state, observation)
        near = jnp.exp(-observation.cluster.latency_s / self.reach_s)
        free = jnp.maximum(observation.capacity() - observation.outstanding, 1.0)
        share = near * free
        return state, share / share.sum(axis=1, keepdims=True)

    def affinity(self, state, offer):
        return self.bonus_s * offer.resident - offer.wait_s - offer.service_s


mine = NearAndFree(**vars(tj.schedulers.get("torta")))
own = evaluate(abilene, arrivals, calm, {"near-and-free": mine}, SEEDS, SLOTS)
report(episodes | own)
