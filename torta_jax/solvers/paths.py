"""Shortest chains of moves: the end of an auction, where bids would rise or prices fall by many small steps.

After the primal-dual methods for flows (Ahuja, Magnanti and Orlin 1993, chapter 9). A move costs what the task loses by
it, and nothing if it gains, as it may by epsilon. Then all stay content to epsilon when prices change by what is left
of the shortest chain.

Tasks may stay outside, so the matching is the best only if a server with places left costs nothing. Here it fills them
or loses its price, where an auction would hold reverse rounds (Bertsekas, Castañon and Tsaknakis 1993).
"""

import jax.numpy as jnp
from jax import lax

from torta_jax.solvers.bidding import UNDECIDED, Auction
from torta_jax.solvers.matching import Assignment


def augment(problem: Assignment, state: Auction) -> Auction:
    """The first undecided task gets a place by the chain of moves that costs least; prices rise so that all gain by it.

    A chain ends on a server with places left or with a task that goes outside.
    """
    servers, tasks = jnp.arange(problem.room.size), jnp.arange(state.server.size)
    far = jnp.asarray(problem.highest, problem.value.dtype)
    holds = servers == state.server[:, None]
    net = problem.value - state.price
    task = jnp.argmax(state.server == UNDECIDED)
    starts = tasks == task
    own = jnp.where(holds, net, 0).sum(axis=1)
    own = jnp.where(starts, jnp.maximum(net.max(axis=1), problem.outside), own)
    loss = jnp.maximum(own[:, None] - net, 0)
    moves = starts | ((state.server >= 0) & (state.server < servers.size))

    def reach(distance):  # [N] of the tasks
        there = jnp.where(holds, distance, 0).sum(axis=1)
        return jnp.where(moves, jnp.where(starts, 0, there), far)

    def relax(carry):
        distance, parent, _ = carry
        through = jnp.where(moves[:, None] & ~holds, jnp.minimum(reach(distance)[:, None] + loss, far), far)
        best = through.min(axis=0)
        shorter = best < distance
        parent = jnp.where(shorter, jnp.where(through == best, tasks[:, None], tasks.size).min(axis=0), parent)
        return jnp.where(shorter, best, distance), parent, shorter.any()

    unreached = jnp.full(servers.shape, far), jnp.full(servers.shape, tasks.size), jnp.asarray(True)
    distance, parent, _ = lax.while_loop(lambda carry: carry[2], relax, unreached)
    ends = jnp.where(holds.sum(axis=0) < problem.room, distance, far)
    leaves = jnp.where(moves, jnp.minimum(reach(distance) + jnp.maximum(own - problem.outside, 0), far), far)
    nearest = jnp.minimum(ends.min(), leaves.min())
    price = state.price + jnp.maximum(nearest - distance, 0)
    goes_out = leaves.min() < ends.min()
    last = jnp.argmin(leaves)
    server = jnp.where(goes_out & (tasks == last), servers.size, state.server)
    place = jnp.where(goes_out, jnp.where(last == task, UNDECIDED, state.server[last]), jnp.argmin(ends))

    def shift(carry):
        server, place = carry
        mover = parent[place]
        before = jnp.where(mover == task, UNDECIDED, state.server[mover])
        return jnp.where(tasks == mover, place, server), before

    more = lambda carry: (carry[1] != UNDECIDED) & (parent[carry[1]] < tasks.size)  # noqa: E731
    server, _ = lax.while_loop(more, shift, (server, place.astype(jnp.int32)))
    return state.replace(server=server.astype(jnp.int32), price=price)


def release(problem: Assignment, state: Auction) -> Auction:
    """The first server with places left and a price fills one by the chain of moves that costs least; prices fall.

    The chain begins with a task from outside, or on a server whose price falls to zero; on the first one itself, and
    nobody moves, if nothing is cheaper.
    """
    servers, tasks = jnp.arange(problem.room.size), jnp.arange(state.server.size)
    far = jnp.asarray(problem.highest, problem.value.dtype)
    holds = servers == state.server[:, None]
    net = problem.value - state.price
    goal = jnp.argmax((holds.sum(axis=0) < problem.room) & (state.price > 0))
    outside = state.server == servers.size
    own = jnp.where(outside, problem.outside, jnp.where(holds, net, 0).sum(axis=1))
    loss = jnp.where(holds | (state.server < 0)[:, None], far, jnp.maximum(own[:, None] - net, 0))

    def relax(carry):
        distance, mover, target, _ = carry
        through = jnp.minimum(distance + loss, far)
        nearest, next_ = through.min(axis=1), jnp.argmin(through, axis=1)
        from_here = jnp.where(holds, nearest[:, None], far)
        best = from_here.min(axis=0)
        first = jnp.where(holds & (from_here == best), tasks[:, None], tasks.size).min(axis=0)
        shorter = best < distance
        return (
            jnp.where(shorter, best, distance),
            jnp.where(shorter, first, mover),
            jnp.where(shorter, next_[first], target),
            shorter.any(),
        )

    nobody = jnp.full(servers.shape, tasks.size)
    start = jnp.where(servers == goal, jnp.zeros_like(far), far), nobody, nobody, jnp.asarray(True)
    distance, mover, target, _ = lax.while_loop(lambda carry: carry[3], relax, start)
    through = jnp.where(outside[:, None], jnp.minimum(distance + loss, far), far)
    free = jnp.minimum(distance + state.price, far)
    enters = through.min() < free.min()
    comes = jnp.argmin(through.min(axis=1))
    place = jnp.where(enters, jnp.argmin(through[comes]), jnp.argmin(free))
    price = jnp.maximum(state.price - jnp.maximum(jnp.minimum(through.min(), free.min()) - distance, 0), 0)
    price = jnp.where(~enters & (servers == place), 0, price)
    server = jnp.where(enters & (tasks == comes), place, state.server)

    def shift(carry):
        server, place = carry
        return jnp.where(tasks == mover[place], target[place], server), target[place]

    server, _ = lax.while_loop(
        lambda carry: (carry[1] != goal) & (mover[carry[1]] < tasks.size), shift, (server, place)
    )
    return state.replace(server=server.astype(jnp.int32), price=price)
