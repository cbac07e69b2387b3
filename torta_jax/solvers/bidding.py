"""Rounds of an auction: tasks bid for places on servers.

Forward rounds after Bertsekas (1988), with the rule of similar objects (Bertsekas and Castañon 1989): a bid is measured
against the best *other server*, not another place on the same one.
"""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.solvers.matching import Assignment

UNDECIDED = -1

BIDDERS = 16
"""Tasks that bid in a round at most, after the first; more are seldom undecided, and cost their time in each."""


class Auction(struct.PyTreeNode):
    """Where the bidding stands. A task outside has the number of servers for its server."""

    server: jax.Array  # [N] int32
    bid: jax.Array  # [N] price at which a task holds its place
    price: jax.Array  # [S] >= 0
    epsilon: jax.Array  # []
    bidding: jax.Array  # [] bool, a task is undecided
    idle: jax.Array  # [] bool, a server with places left has a price
    rounds: jax.Array  # [] int32


def opening(problem: Assignment, price, epsilon) -> Auction:
    """Nobody has a place."""
    dtype = problem.value.dtype
    return Auction(
        server=jnp.full(problem.outside.shape, UNDECIDED, jnp.int32),
        bid=jnp.zeros_like(problem.outside),
        price=jnp.asarray(price, dtype),
        epsilon=jnp.asarray(epsilon, dtype),
        bidding=problem.mask.any(),
        idle=jnp.asarray(False),
        rounds=jnp.int32(0),
    )


def next_round(problem: Assignment, state: Auction) -> Auction:
    """What is open after a round."""
    count = (jnp.arange(problem.room.size) == state.server[:, None]).sum(axis=0)
    return state.replace(
        rounds=state.rounds + 1,
        bidding=(state.server == UNDECIDED).any(),
        idle=((count < problem.room) & (state.price > 0)).any(),
    )


def forward(problem: Assignment, state: Auction, task: jax.Array) -> Auction:
    """The undecided tasks [K] bid; a server with places left takes who comes first, a full one its highest bidder.

    A full server costs what its cheapest place is held at. An index beyond the last task is nobody.
    """
    servers, high, dtype = jnp.arange(problem.room.size), problem.highest, problem.value.dtype
    staying = problem.outside.at[task].get(mode="fill", fill_value=0)
    net = problem.value.at[task].get(mode="fill", fill_value=0) - state.price
    best, choice = net.max(axis=1), jnp.argmax(net, axis=1)
    chosen = servers == choice[:, None]
    second = jnp.maximum(jnp.where(chosen, -high, net).max(axis=1), staying)
    here, leaves = task < state.server.size, staying >= best
    wants = chosen & (here & ~leaves)[:, None]
    bid = jnp.where(chosen, state.price, 0).sum(axis=1) + (best - second) + state.epsilon
    holds = servers == state.server[:, None]
    left = problem.room - holds.sum(axis=0)
    fills = wants & (jnp.cumsum(wants, axis=0) <= left)
    bids = jnp.where(wants & (left <= 0), bid[:, None], -high)
    held = jnp.where(holds, state.bid[:, None], high)
    takes = fills | (_first(bids == bids.max(axis=0)) & (bids > -high))
    sells = takes.any(axis=0)
    loses = _first(held == held.min(axis=0)) & sells & (left <= 0)
    server = jnp.where(loses.any(axis=1), UNDECIDED, state.server)
    choice = jnp.where(leaves, servers.size, jnp.where(takes.any(axis=1), choice, UNDECIDED)).astype(jnp.int32)
    lowest = jnp.minimum(jnp.where(loses, high, held).min(axis=0), jnp.where(takes, bid[:, None], high).min(axis=0))
    full = sells & (left <= fills.sum(axis=0))
    return state.replace(
        server=server.at[task].set(choice, mode="drop"),
        bid=state.bid.at[task].set(bid.astype(dtype), mode="drop"),
        price=jnp.where(full, jnp.maximum(lowest, state.price), state.price),
    )


def forward_few(problem: Assignment, state: Auction) -> Auction:
    """The first BIDDERS of the undecided bid."""
    count = jnp.cumsum(state.server == UNDECIDED)
    task = jnp.searchsorted(count, jnp.arange(1, min(BIDDERS, count.size) + 1))
    return forward(problem, state, task)


def _first(matrix: jax.Array) -> jax.Array:
    """[N, S] bool, of each column the first that is true."""
    rows = jnp.arange(matrix.shape[0])[:, None]
    return matrix & (rows == jnp.where(matrix, rows, rows.size).min(axis=0))
