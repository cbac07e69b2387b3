"""The dual of entropic transport: one price per column, found by scaling and then by damped Newton steps.

With prices p and temperature e a row spreads as softmax((-cost - p) / e), so rows sum to one by construction, and only
the columns' bounds are left to meet: the dual function is concave in p and has one variable per column.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

TINY = 1e-30

NOWHERE = 1e6
"""Cost of going outside where that is not possible; a column that nothing may reach costs more."""

WARMEST = 0.05
"""Temperature at which a colder problem starts; at or above it a cold start converges without annealing."""

WINDOW = 10
"""Scaling steps between two evaluations of the exponential."""

FINAL_STEPS = 8
"""Newton steps at the problem's own temperature; those before them anneal."""

LENGTHS = (32.0, 8.0, 2.0, 0.5)
"""Largest changes of a price tried along a Newton direction, in temperatures; the longest good one is taken."""

LARGEST_GAP = 10.0
"""Logarithm of what is received over what should be that counts at most."""

DAMPING = 0.02
"""Share by which a Newton step falls back on Sinkhorn's, at first."""

LEAST = 1e-6
"""Share of all mass that columns without a price are asked to take at least."""


dot = partial(jnp.dot, precision="highest")
"""Adds up faster than `sum` along the last axis, and to the same bits whatever the batch."""


def total(x: jax.Array) -> jax.Array:
    """[...] sums along the last axis."""
    return dot(x, jnp.ones_like(x, shape=x.shape[-1:]))


class Problem(struct.PyTreeNode):
    """Rows with mass, columns with bounds; the last column is outside: it has no bound and no price.

    Matrices have the columns first, of which there are few: what is added up most, the rows, then lies side by side.
    """

    cost: jax.Array  # [C + 1, N]
    mass: jax.Array  # [N] >= 0
    bound: jax.Array  # [C] > 0
    epsilon: jax.Array  # [] temperature, in the units of cost


class Budget(NamedTuple):
    """How much work is done, whatever the data."""

    tight: bool  # bounds are met exactly, instead of from below
    scaling_steps: int
    newton_steps: int
    final_steps: int = FINAL_STEPS
    lengths: tuple[float, ...] = LENGTHS


@jax.custom_vjp
def shares(problem: Problem, price: jax.Array, temperature) -> tuple[jax.Array, jax.Array]:
    """[C + 1, N] how each row spreads over the columns, and the rows' log-partition functions [N]."""
    logits = -(problem.cost + jnp.append(price, 0.0)[:, None]) / temperature
    top = logits.max(axis=0)
    weight = jnp.exp(logits - top)
    together = weight.sum(axis=0)
    return weight / together, top + jnp.log(together)


def _shares_forward(problem, price, temperature):
    share, log_total = shares(problem, price, temperature)
    return (share, log_total), (problem, price, temperature, share)


def _shares_backward(saved, bar):
    """Of a softmax, with the sums over rows by `dot`."""
    problem, price, temperature, share = saved
    share_bar, log_total_bar = bar
    pull = share * (share_bar - (share_bar * share).sum(axis=0) + log_total_bar)
    by_column = total(pull)
    spent = total((pull * problem.cost).sum(axis=0)) + dot(by_column[:-1], price)
    problem_bar = jax.tree.map(jnp.zeros_like, problem).replace(cost=-pull / temperature)
    return problem_bar, -by_column[:-1] / temperature, spent / temperature**2


shares.defvjp(_shares_forward, _shares_backward)


def received(problem: Problem, price: jax.Array) -> jax.Array:
    """[C] mass that reaches each column."""
    share, _ = shares(problem, price, problem.epsilon)
    return dot(share, problem.mass)[:-1]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def prices(problem: Problem, start: jax.Array, budget: Budget) -> jax.Array:
    """[C] dual prices, at least zero.

    Differentiable in `problem` by the implicit function theorem, as if converged; `start` [C] gets no gradient.
    """
    warm = jnp.maximum(problem.epsilon, WARMEST) if budget.newton_steps > budget.final_steps else problem.epsilon
    price = scale(problem, settle(problem, start, budget), warm, budget)
    return climb(problem, price, warm, budget)


def settle(problem: Problem, price: jax.Array, budget: Budget) -> jax.Array:
    """The prices, at least zero and, unless there is too much mass, one of them zero.

    Where nothing goes outside the dual function rises as all prices fall together.
    """
    if budget.tight:
        return price - price.min()
    price = jnp.maximum(price, 0.0)
    return price - jnp.where(total(problem.mass) <= total(problem.bound), price.min(), 0.0)


def lift(problem: Problem, price: jax.Array, temperature) -> jax.Array:
    """All prices raised together until what cannot be received goes outside (nothing happens without overload).

    Scaling of the two columns that are left if all priced ones are seen as one.
    """
    spill = total(problem.mass) - total(problem.bound)
    inside = -(problem.cost[:-1] + price[:, None]) / temperature
    lead = jax.nn.logsumexp(inside, axis=0) + problem.cost[-1] / temperature
    weight = jnp.log(jnp.maximum(problem.mass, TINY))
    log_total = lambda x: x.max() + jnp.log(total(jnp.exp(x - x.max())))  # noqa: E731
    wanted = jnp.log(jnp.maximum(spill, TINY)) - jnp.log(total(problem.bound))

    def step(_, shift):
        outside = log_total(weight - jax.nn.softplus(lead - shift))
        within = log_total(weight - jax.nn.softplus(shift - lead))
        return shift + wanted - (outside - within)

    shift = lax.fori_loop(0, 4, step, jnp.zeros_like(spill))
    return jnp.where(spill > 0, jnp.maximum(price + shift * temperature, 0.0), price)


def scale(problem: Problem, price: jax.Array, temperature, budget: Budget) -> jax.Array:
    """Sinkhorn's scaling in windows: inside one only matrix-vector products, between two the exponential.

    After the first window steps are over-relaxed, to their 1.5th power; from a cold start that can diverge.
    """

    def window(k, price):
        if not budget.tight:
            price = lift(problem, price, temperature)
        logits = -(problem.cost + jnp.append(price, 0.0)[:, None]) / temperature
        kernel = jnp.exp(logits - logits.max(axis=0))
        inside, outside = kernel[:-1], kernel[-1]
        highest = jnp.exp(jnp.minimum(price / temperature, 80.0))  # a factor that brings a price to zero

        def step(_, factor):
            row = problem.mass / (dot(factor, inside) + outside + TINY)
            sent = factor * dot(inside, row)
            ratio = jnp.clip(problem.bound / (sent + TINY), 1e-3, 1e3)
            factor = jnp.clip(factor * ratio * jnp.where(k == 0, 1.0, jnp.sqrt(ratio)), 1e-30, 1e30)
            return factor if budget.tight else jnp.minimum(factor, highest)

        factor = lax.fori_loop(0, WINDOW, step, jnp.ones_like(price))
        return settle(problem, price - temperature * jnp.log(factor), budget)

    return lax.fori_loop(0, -(-budget.scaling_steps // WINDOW), window, price)


def common(problem: Problem, share: jax.Array) -> jax.Array:
    """[C + 1, C + 1] mass that two columns share: its rows add up to what each column receives."""
    return dot(problem.mass * share, share.T)


def merged(pairs: jax.Array, kept: jax.Array) -> jax.Array:
    """[C + 1, C + 1] mass that two columns share if the last one stands for all that are not kept."""
    rest = dot(pairs, 1.0 - kept)
    last = jnp.where(kept, rest, 0).at[-1].set(dot(rest, 1.0 - kept))
    return jnp.where(kept & kept[:, None], pairs, 0).at[-1].set(last).at[:, -1].set(last)


def direction(problem: Problem, price: jax.Array, share: jax.Array, damping, budget: Budget) -> jax.Array:
    """[C] change of the prices, in temperatures: Newton's, on the logarithms of what is received over what should be.

    Its first term is Sinkhorn's step, and damped it is that step alone. The columns without a price, the outside among
    them, are seen as one that should receive what the others leave. All prices may then move together, so the largest
    column stays and the rest moves against it.
    """
    pairs = common(problem, share)
    free, _ = conditions(problem, price, total(pairs)[:-1], budget)
    pairs = merged(pairs, jnp.append(free, False))
    sent = total(pairs)
    mass = total(problem.mass)
    left = jnp.maximum(mass - dot(problem.bound, free), LEAST * mass)
    there = jnp.append(free, not budget.tight)
    moves = there & (jnp.arange(sent.size) != jnp.argmax(jnp.where(there, sent, -1.0)))
    gap = jnp.log((sent + TINY) / jnp.append(problem.bound, left))
    root = jnp.sqrt(sent + TINY)
    right = root * jnp.clip(gap, -LARGEST_GAP, LARGEST_GAP)
    change = solve_curvature(pairs, root, moves, 1 - damping, right) / root
    return (change - (0.0 if budget.tight else change[-1]))[:-1] * free


def dual_value(problem: Problem, price: jax.Array, log_total: jax.Array, temperature) -> jax.Array:
    """[] dual function, over the temperature."""
    return -dot(problem.mass, log_total) - dot(problem.bound, price) / temperature


def linear_value(problem: Problem, price: jax.Array) -> jax.Array:
    """[] dual function of the problem without entropy: at any prices a lower bound of its least cost."""
    cheapest = (problem.cost + jnp.append(price, 0.0)[:, None]).min(axis=0)
    return dot(problem.mass, cheapest) - dot(problem.bound, price)


def newton(problem: Problem, price: jax.Array, damping, temperature, budget: Budget) -> tuple[jax.Array, jax.Array]:
    """The prices after one step, the longest that does not lose against others; and the damping of the next."""
    share, log_total = shares(problem, price, temperature)
    change = direction(problem, price, share, damping, budget)
    longest = jnp.maximum(jnp.abs(change).max(), TINY)
    lengths = jnp.minimum(jnp.array([*budget.lengths, 0.0], price.dtype) / longest, 1.0)
    tried = jax.vmap(lambda length: settle(problem, price + length * temperature * change, budget))(lengths)
    factor = jnp.exp((price - tried) / temperature)
    grown = dot(jnp.append(factor, jnp.ones_like(factor[:, :1]), axis=1), share)  # one exponential serves all
    values = jax.vmap(partial(dual_value, problem, temperature=temperature))(tried, log_total + jnp.log(grown))
    size = total(problem.mass) + dot(problem.bound, price) / temperature + jnp.abs(values[-1])
    good = values >= values.max() - 8 * jnp.finfo(price.dtype).eps * size
    best = jnp.argmax(good)
    damping = jnp.where(best == len(budget.lengths), jnp.minimum(damping * 16, 1.0), jnp.maximum(damping / 4, LEAST))
    return tried[best], damping


def conditions(problem: Problem, price: jax.Array, sent: jax.Array, budget: Budget) -> tuple[jax.Array, jax.Array]:
    """[C] bool, columns whose price is to be moved, and by how much mass the optimality conditions are violated."""
    if budget.tight:
        return jnp.ones_like(price, bool), total(jnp.abs(sent - problem.bound))
    free = (price > 0) | (sent > problem.bound)
    return free, total(jnp.where(price > 0, jnp.abs(sent - problem.bound), jnp.maximum(sent - problem.bound, 0.0)))


def solve_curvature(pairs: jax.Array, root, free, weight, right) -> jax.Array:
    """[C] solution x of (I - weight·M) x = right on the free columns, zero elsewhere.

    M [C, C] is the mass two columns share, over the roots of what they receive: the dual's curvature with unit
    diagonal, an M-matrix whose eigenvalues lie between 1 - weight and 1.
    """
    scaled = jnp.where(free & free[:, None], pairs / root / root[:, None], 0.0)
    curvature = jnp.eye(free.shape[0], dtype=pairs.dtype) * (1 + 10 * free.size * jnp.finfo(pairs.dtype).eps)
    return cho_solve(cho_factor(curvature - weight * scaled, lower=True), jnp.where(free, right, 0.0))


def climb(problem: Problem, price: jax.Array, warm, budget: Budget) -> jax.Array:
    """Newton steps, at temperatures that fall from `warm` to the problem's own, and the last ones there."""
    falling = max(budget.newton_steps - budget.final_steps, 0)
    fallen = jnp.minimum(jnp.arange(1.0, budget.newton_steps + 1) / max(falling, 1), 1.0) if falling else 1.0
    temperatures = jnp.broadcast_to(warm * (problem.epsilon / warm) ** fallen, (budget.newton_steps,))

    def step(carry, temperature):
        price, damping = carry
        return newton(problem, price, damping, temperature, budget), None

    return lax.scan(step, (price, jnp.full((), DAMPING, price.dtype)), temperatures)[0][0]


def _forward(problem, start, budget):
    price = prices(problem, start, budget)
    return price, (problem, price)


def _backward(budget, saved, price_bar):
    problem, price = saved
    share, _ = shares(problem, price, problem.epsilon)
    pairs = common(problem, share)
    sent = total(pairs)[:-1]
    free = jnp.arange(price.size) != jnp.argmax(sent) if budget.tight else price > 0
    free = free & (problem.bound > TINY)  # a column that takes nothing has no price to speak of
    root = jnp.sqrt(sent + TINY)
    pressure = solve_curvature(pairs[:-1, :-1], root, free, 1.0, price_bar / root) / root
    _, pull = jax.vjp(lambda it: received(it, price) - it.bound, problem)
    (problem_bar,) = pull(problem.epsilon * pressure)
    return problem_bar, jnp.zeros_like(price)


prices.defvjp(_forward, _backward)
