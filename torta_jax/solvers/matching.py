"""An assignment problem in units of its own, and a matching with its certificate."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.types import Status

UNMATCHED = -1
"""Server of a task that stays unassigned."""

NEVER = 10.0
NEVER_INTEGER = 2**28
"""A pair that is not allowed is worth this much less than nothing, in the units of the problem."""


class Matching(struct.PyTreeNode):
    """Which server each task gets; it is within dual_value - value of the best."""

    server: jax.Array  # [N] int32, UNMATCHED where a task stays out
    price: jax.Array  # [S] of a place on each server, in the units of value, >= 0; a start for a similar problem
    value: jax.Array  # [] worth of all tasks, those that stay out included
    dual_value: jax.Array  # [] no matching is worth more; infinite, or the largest integer, where NON_FINITE
    rounds: jax.Array  # [] int32
    status: jax.Array  # [] types.Status


class Assignment(struct.PyTreeNode):
    """Each task goes to one server or stays outside.

    Values are floats in [0, 1], or integers in steps of N + 1, of which an auction need not tell less than one apart.
    """

    value: jax.Array  # [N, S]; below zero where a pair is not allowed
    outside: jax.Array  # [N]
    room: jax.Array  # [S] int32, tasks a server takes
    mask: jax.Array  # [N] bool, tasks that exist
    low: jax.Array  # [] the caller's value that is zero here
    span: jax.Array  # [] the caller's units between the lowest and the highest value
    valid: jax.Array  # [] bool: all values are finite and in range, room is whole and at least zero

    @property
    def exact(self) -> bool:
        return jnp.issubdtype(self.value.dtype, jnp.integer)

    @property
    def unit(self) -> jax.Array:
        """[] the whole range of values."""
        return self.span * (self.value.shape[0] + 1) if self.exact else jnp.ones_like(self.span)

    @property
    def highest(self) -> jax.Array:
        """A number above all values, prices and bids."""
        return jnp.asarray(2 * NEVER_INTEGER if self.exact else 10 * NEVER, self.value.dtype)


def assignment(value, room, outside=None, task_mask=None, mask=None) -> Assignment:
    """The problem in units of its own; a pair that is worth less than staying outside is as good as not allowed."""
    value, room = jnp.asarray(value), jnp.asarray(room)
    tasks = value.shape[0]
    outside = jnp.zeros(tasks, int) if outside is None else jnp.asarray(outside)
    whole = all(not jnp.issubdtype(array.dtype, jnp.inexact) for array in (value, outside))
    value, outside = (array.astype(int if whole else jnp.result_type(value, outside)) for array in (value, outside))
    here = jnp.ones((tasks, 1), bool) if task_mask is None else jnp.asarray(task_mask, bool)[:, None]
    allowed = here & (room > 0) & (True if mask is None else jnp.asarray(mask, bool))
    valid = jnp.isfinite(jnp.where(allowed, value, 0)).all() & jnp.isfinite(jnp.where(here[:, 0], outside, 0)).all()
    valid = valid & ((room >= 0) & (room == jnp.floor(room)) & jnp.isfinite(room)).all()
    allowed = allowed & (value >= outside[:, None])
    pairs, there = jnp.append(value, outside[:, None], axis=1), jnp.append(allowed, here, axis=1)
    pairs = jnp.where(there & jnp.isfinite(pairs), pairs, 0)
    low, high = jnp.where(there, pairs, pairs.max()).min(), jnp.where(there, pairs, pairs.min()).max()
    span = high - low
    if whole:
        wide, largest = high.astype(float) - low.astype(float), jnp.maximum(jnp.abs(low), jnp.abs(high)).astype(float)
        valid = valid & (wide < NEVER_INTEGER) & (span <= NEVER_INTEGER // (tasks + 1))  # the latter may wrap
        valid = valid & (largest * tasks < jnp.iinfo(value.dtype).max)
        worth, never = (pairs - low) * (tasks + 1), -NEVER_INTEGER
    else:
        valid = valid & jnp.isfinite(span)
        span = jnp.maximum(span, jnp.finfo(value.dtype).tiny)
        worth, never = (pairs - low) / span, -NEVER
    worth = jnp.where(there, worth, never)
    return Assignment(
        value=worth[:, :-1],
        outside=jnp.where(here[:, 0], worth[:, -1], 0),
        room=jnp.clip(room, 0, tasks).astype(jnp.int32),
        mask=here[:, 0],
        low=low,
        span=span,
        valid=valid,
    )


def matching(problem: Assignment, server, price, rounds, finished) -> Matching:
    """The result in the caller's units; `server` is UNMATCHED or the number of servers for a task that stays out.

    Integers are added as quotients and remainders by N + 1, whose sums fit 32 bits. The bound of floats allows for
    what was rounded.
    """
    servers = problem.room.size
    matched = (server >= 0) & (server < servers) & problem.mask
    own = jnp.take_along_axis(problem.value, jnp.clip(server, 0, servers - 1)[:, None], axis=1)[:, 0]
    got = jnp.where(problem.mask, jnp.where(matched, own, problem.outside), 0)
    best = jnp.where(problem.mask, jnp.maximum((problem.value - price).max(axis=1), problem.outside), 0)
    step = problem.value.shape[0] + 1
    if problem.exact:
        value = (got // step).sum()
        rest = (best % step).sum() + (problem.room * (price % step)).sum()
        dual = (best // step).sum() + (problem.room * (price // step)).sum() + rest // step
        value, dual = (total + problem.mask.sum() * problem.low for total in (value, dual))
        price = price / step
    else:
        value, dual = got.sum(), best.sum() + (problem.room * price).sum()
        value, dual = (total * problem.span + problem.mask.sum() * problem.low for total in (value, dual))
        dual = dual + problem.mask.sum() * jnp.finfo(value.dtype).eps * (problem.span + jnp.abs(problem.low))
        price = price * problem.span
    status = jnp.where(finished, Status.CONVERGED, Status.BUDGET_SPENT)
    status = jnp.where(problem.valid, status, Status.NON_FINITE)
    dual = jnp.where(problem.valid, dual, jnp.iinfo(dual.dtype).max if problem.exact else jnp.inf)
    return Matching(
        server=jnp.where(matched, server, UNMATCHED).astype(jnp.int32),
        price=price,
        value=value,
        dual_value=dual,
        rounds=jnp.asarray(rounds, jnp.int32),
        status=status.astype(jnp.int32),
    )
