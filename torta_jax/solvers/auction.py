"""The auction: tasks bid for places on servers, from the prices of entropic transport to the optimum within epsilon.

Forward rounds after Bertsekas (1988), with the rule of similar objects (Bertsekas and Castañon 1989): a bid is measured
against the best *other server*, not another place on the same one. Tasks may stay outside, so a server with places left
must cost nothing; reverse rounds (Bertsekas, Castañon and Tsaknakis 1993) lower its price until it does, or is full.

In place of the usual phases of falling epsilon the auction starts from the dual prices of the entropic problem
(`solvers.dual`), which are nearly those of the optimum: a handful of rounds is left. An instance that still takes long
bids in larger steps for a while, and is then refined. With integer values and epsilon below 1 / N the result is exact.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.typing import ArrayLike

from torta_jax.solvers import checks, soft
from torta_jax.solvers.matching import Assignment, Matching, assignment, matching

UNDECIDED = -1

PATIENCE = 64
"""Rounds after which epsilon grows."""

BIDDERS = 16
"""Tasks that bid in a round at most, after the first; more are seldom undecided, and cost their time in each."""

GROWTH = 8
"""Factor by which epsilon grows where bidding takes long, and falls again."""


class Auction(struct.PyTreeNode):
    """Where the bidding stands. A task outside has the number of servers for its server."""

    server: jax.Array  # [N] int32
    bid: jax.Array  # [N] price at which a task holds its place
    price: jax.Array  # [S] >= 0
    epsilon: jax.Array  # []
    since: jax.Array  # [] int32 rounds at this epsilon
    bidding: jax.Array  # [] bool, a task is undecided
    idle: jax.Array  # [] bool, a server with places left has a price
    rounds: jax.Array  # [] int32


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


def reverse(problem: Assignment, state: Auction) -> Auction:
    """Each server with places left and a price lowers it to the second-highest claim, and offers the highest a place.

    A claim is what a task would gain from a place that is free; it takes the best it is offered.
    """
    servers, high = jnp.arange(problem.room.size), problem.highest
    holds = servers == state.server[:, None]
    idle = (holds.sum(axis=0) < problem.room) & (state.price > 0)
    profit = jnp.where(holds, problem.value - state.price, 0).sum(axis=1)
    profit = jnp.where(state.server == servers.size, problem.outside, profit)
    claim = jnp.where(holds, -high, problem.value - profit[:, None])
    first = _first(claim == claim.max(axis=0))
    second = jnp.where(first, -high, claim).max(axis=0)
    lower = second - state.epsilon  # not compared with the highest claim, which may equal the second to the last bit
    accepts = idle & ((lower > 0) | (claim.max(axis=0) >= state.epsilon))
    price = jnp.where(idle, jnp.minimum(state.price, jnp.maximum(lower, 0)), state.price)
    gain = jnp.where(first & accepts, problem.value - price, -high)
    kept = jnp.where(holds, problem.value - price, 0).sum(axis=1)  # its own server may have become cheaper, too
    moves = gain.max(axis=1) > jnp.where(state.server == servers.size, problem.outside, kept)
    server = jnp.where(moves, jnp.argmax(gain, axis=1), state.server).astype(jnp.int32)
    return state.replace(server=server, price=price)


def solve(
    value: ArrayLike,
    room: ArrayLike,
    *,
    outside: ArrayLike | None = None,
    task_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    init_price: ArrayLike | None = None,
    epsilon: float = 1e-3,
    max_rounds: int = 2000,
) -> Matching:
    """Match tasks to servers for the highest total value.

    Args:
        value: [N, S] of task i on server j. Integers are solved exactly, floats to N·epsilon of their range.
        room: [S] int, tasks a server takes at most.
        outside: [N] value of leaving a task unassigned, in the units of value; default 0.
        task_mask: [N] bool, tasks that exist; the others stay unassigned and count for nothing.
        mask: [N, S] bool, pairs that are allowed.
        init_price: [S] prices of a similar problem, in place of those of entropic transport.
        epsilon: step of a bid as a share of the range of values; integers ignore it.
        max_rounds: budget, after the first round. Tasks that are undecided when it is spent stay unassigned; the
            certificate still holds.

    Returns:
        `Matching`; status BUDGET_SPENT where bidding did not end.

    Raises:
        InputError: shapes that do not match; outside a trace also values that are not allowed, or integers whose range
            times the number of tasks leaves 28 bits.
    """
    checks.assignment(value, room, outside, task_mask, mask, init_price)
    return _solve(value, room, outside, task_mask, mask, init_price, epsilon, max_rounds)


@jax.jit
def _solve(value, room, outside, task_mask, mask, init_price, epsilon, max_rounds) -> Matching:
    problem = assignment(value, room, outside, task_mask, mask)
    dtype = problem.value.dtype
    final = jnp.asarray(1 if problem.exact else epsilon, dtype)
    if init_price is None:
        price = soft.prices(problem)
    else:
        scale = problem.value.shape[0] + 1 if problem.exact else 1 / problem.span
        # Nobody pays more than the highest; without tasks the scale is infinite.
        price = jnp.clip(jnp.asarray(init_price, float) * scale, 0, problem.highest)
    state = one_by_one(_both_ways)(problem, price, final, max_rounds)
    return matching(problem, state.server, state.price, state.rounds, finished(state, final))


def _both_ways(problem: Assignment, price, final, max_rounds) -> Auction:
    state = _opening(problem, price, final)
    state = forward(problem, state, jnp.arange(state.server.size))
    return lax.while_loop(
        lambda state: ~finished(state, final) & (state.rounds < max_rounds),
        lambda state: advance(problem, state, final),
        next_round(problem, state),
    )


def forward_only(problem: Assignment, epsilon, max_rounds) -> Auction:
    """Bidding from prices of zero at one epsilon, in the units of `problem`; an idle server then has no price.

    All undecided tasks bid in every round: from such prices many are, and rounds are few.
    """
    return one_by_one(_forward_only)(problem, epsilon, max_rounds)


def _forward_only(problem: Assignment, epsilon, max_rounds) -> Auction:
    state = _opening(problem, jnp.zeros(problem.room.shape, problem.value.dtype), epsilon)
    tasks = jnp.arange(state.server.size)

    def round_(state: Auction) -> Auction:
        state = forward(problem, state, jnp.where(state.server == UNDECIDED, tasks, tasks.size))
        return state.replace(bidding=(state.server == UNDECIDED).any(), rounds=state.rounds + 1)

    return lax.while_loop(lambda state: state.bidding & (state.rounds < max_rounds), round_, state)


def _opening(problem: Assignment, price, epsilon) -> Auction:
    dtype = problem.value.dtype
    return Auction(
        server=jnp.full(problem.outside.shape, UNDECIDED, jnp.int32),
        bid=jnp.zeros_like(problem.outside),
        price=jnp.asarray(price, dtype),
        epsilon=jnp.asarray(epsilon, dtype),
        since=jnp.int32(0),
        bidding=problem.mask.any(),
        idle=jnp.asarray(False),
        rounds=jnp.int32(0),
    )


def finished(state: Auction, final: jax.Array) -> jax.Array:
    return ~state.bidding & ~state.idle & (state.epsilon <= final)


def advance(problem: Assignment, state: Auction, final: jax.Array) -> Auction:
    """One round: forward while a task is undecided, then reverse while an idle server has a price, then finer steps."""
    kind = jnp.where(state.bidding, 0, jnp.where(state.idle, 1, 2))
    state = lax.switch(kind, (forward_few, reverse, partial(refine, final=final)), problem, state)
    return next_round(problem, state)


def next_round(problem: Assignment, state: Auction) -> Auction:
    """What is open after a round, and a larger epsilon where bidding takes long."""
    slow = state.since > PATIENCE + state.rounds // 2
    count = (jnp.arange(problem.room.size) == state.server[:, None]).sum(axis=0)
    return state.replace(
        epsilon=jnp.where(slow, state.epsilon * GROWTH, state.epsilon),
        since=jnp.where(slow, 0, state.since + 1),
        rounds=state.rounds + 1,
        bidding=(state.server == UNDECIDED).any(),
        idle=((count < problem.room) & (state.price > 0)).any(),
    )


def refine(problem: Assignment, state: Auction, final: jax.Array) -> Auction:
    """A smaller epsilon where both ends are closed; tasks that are not content with it are undecided again."""
    epsilon = jnp.maximum((state.epsilon / GROWTH).astype(state.epsilon.dtype), final)
    net, servers = problem.value - state.price, jnp.arange(problem.room.size)
    holds = servers == state.server[:, None]
    own = jnp.where(holds, net, 0).sum(axis=1)
    own = jnp.where(state.server == servers.size, problem.outside, own)
    content = own >= jnp.maximum(net.max(axis=1), problem.outside) - epsilon
    return state.replace(
        server=jnp.where(content, state.server, UNDECIDED),
        bid=jnp.where(holds, state.price, 0).sum(axis=1),
        epsilon=epsilon,
        since=jnp.zeros_like(state.since),
    )


def one_by_one(solve):
    """`solve`, whose batch on a CPU is solved one problem after the other: none waits for the slowest.

    Elsewhere a batch runs in lock-step, as always under `vmap`.
    """
    cpu = jax.custom_batching.sequential_vmap(solve)
    return lambda *args: lax.platform_dependent(*args, cpu=cpu, default=solve)


def _first(matrix: jax.Array) -> jax.Array:
    """[N, S] bool, of each column the first that is true."""
    rows = jnp.arange(matrix.shape[0])[:, None]
    return matrix & (rows == jnp.where(matrix, rows, rows.size).min(axis=0))
