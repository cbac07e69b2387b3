"""The auction: tasks bid for places on servers, from the prices of entropic transport to the optimum within epsilon.

In place of the usual phases of falling epsilon the auction starts from the dual prices of the entropic problem
(`solvers.dual`), which are nearly those of the optimum: a handful of rounds is left (`solvers.bidding`). Where bidding
takes long, and for servers that have places left at a price, shortest chains of moves take over (`solvers.paths`), in
place of the usual reverse rounds. With integer values the result is exact.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from torta_jax.solvers import checks, soft
from torta_jax.solvers.bidding import UNDECIDED, Auction, forward, forward_few, next_round, opening
from torta_jax.solvers.matching import Assignment, Matching, assignment, matching
from torta_jax.solvers.paths import augment, release

PATIENCE = 64
"""Rounds of bidding; who is undecided then finds a place by a chain of moves."""


def solve(
    value: ArrayLike,
    room: ArrayLike,
    *,
    outside: ArrayLike | None = None,
    task_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    init_price: ArrayLike | None = None,
    epsilon: float = 1e-3,
    max_rounds: int | None = None,
) -> Matching:
    """Match tasks to servers for the highest total value.

    Args:
        value: [N, S] of task i on server j. Integers are solved exactly, floats to N·epsilon of their range, which is
            that of the values of pairs worth more than outside.
        room: [S] int, tasks a server takes at most.
        outside: [N] value of leaving a task unassigned, in the units of value; default 0.
        task_mask: [N] bool, tasks that exist; the others stay unassigned and count for nothing.
        mask: [N, S] bool, pairs that are allowed.
        init_price: [S] prices of a similar problem, in place of those of entropic transport.
        epsilon: step of a bid as a share of the range of values; integers ignore it.
        max_rounds: budget, by default one that suffices; the first round is held in any case. Tasks that are undecided
            when it is spent stay unassigned; the certificate still holds.

    Returns:
        `Matching`, which has no gradient; status BUDGET_SPENT where bidding did not end, NON_FINITE where a trace hid
        values that are not allowed.

    Raises:
        InputError: shapes that do not match; outside a trace also values that are not allowed, or integers whose range
            times the number of tasks leaves 28 bits.
    """
    checks.assignment(value, room, outside, task_mask, mask, init_price)
    checks.positive("epsilon", epsilon)
    if max_rounds is None:
        max_rounds = PATIENCE + 2 * sum(jnp.shape(value))
    checks.count("max_rounds", max_rounds)
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
        # Nobody pays more than the whole range; without tasks the scale is infinite.
        price = jnp.nan_to_num(jnp.clip(jnp.asarray(init_price, float) * scale, 0, problem.unit))
    state = one_by_one(bid_and_move)(problem, price, final, max_rounds)
    return matching(problem, state.server, state.price, state.rounds, ~state.bidding & ~state.idle)


@jax.jit
def bid_and_move(problem: Assignment, price, epsilon, max_rounds) -> Auction:
    """Places for the undecided tasks, by bids and then by chains; tasks, or no price, for the idle servers.

    The last phase leaves no task undecided, so each is gone through once.
    """

    def rounds(step, state: Auction, most, there) -> Auction:
        return lax.while_loop(
            lambda state: there(state) & (state.rounds < most),
            lambda state: next_round(problem, step(problem, state)),
            state,
        )

    state = opening(problem, price, epsilon)
    state = next_round(problem, forward(problem, state, jnp.arange(state.server.size)))
    state = rounds(forward_few, state, jnp.minimum(PATIENCE, max_rounds), lambda state: state.bidding)
    state = rounds(augment, state, max_rounds, lambda state: state.bidding)
    return rounds(release, state, max_rounds, lambda state: ~state.bidding & state.idle)


def forward_only(problem: Assignment, epsilon, max_rounds) -> Auction:
    """Bidding from prices of zero at one epsilon, in the units of `problem`; an idle server then has no price.

    All undecided tasks bid in every round: from such prices many are, and rounds are few.
    """
    return one_by_one(_forward_only)(problem, epsilon, max_rounds)


def _forward_only(problem: Assignment, epsilon, max_rounds) -> Auction:
    state = opening(problem, jnp.zeros(problem.room.shape, problem.value.dtype), epsilon)
    tasks = jnp.arange(state.server.size)

    def round_(state: Auction) -> Auction:
        state = forward(problem, state, jnp.where(state.server == UNDECIDED, tasks, tasks.size))
        return state.replace(bidding=(state.server == UNDECIDED).any(), rounds=state.rounds + 1)

    return lax.while_loop(lambda state: state.bidding & (state.rounds < max_rounds), round_, state)


def one_by_one(solve):
    """`solve`, whose batch on a CPU is solved one problem after the other: none waits for the slowest.

    Elsewhere a batch runs in lock-step, as always under `vmap`.
    """
    cpu = jax.custom_batching.sequential_vmap(solve)
    return lambda *args: lax.platform_dependent(*args, cpu=cpu, default=solve)
