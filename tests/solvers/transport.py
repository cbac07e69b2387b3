"""Transport problems for tests, and linear programming as their oracle."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

REGIONS = 5


def instance(seed, load=0.7, regions=REGIONS):
    """Cost, demand and capacity; some capacities bind."""
    rng = np.random.default_rng(seed)
    cost, demand, capacity = rng.uniform(0.1, 2, (regions, regions)), *rng.uniform(5, 60, (2, regions))
    return cost, demand, capacity * demand.sum() / capacity.sum() / load


def linear_program(cost, demand, capacity, *, equal=False, buffer=None, mask=None):
    """Least <cost, P> with P·1 = demand and Pᵀ·1 at most (or equal to) capacity; prices of capacity beside it."""
    n = len(demand)
    allowed = np.ones(cost.shape, bool) if mask is None else mask
    if buffer is not None:
        cost, capacity = np.column_stack([cost, np.full(n, buffer)]), np.append(capacity, demand.sum())
        allowed = np.column_stack([allowed, np.ones(n, bool)])
    width = cost.shape[1]
    rows, columns = np.kron(np.eye(n), np.ones(width)), np.kron(np.ones(n), np.eye(width))
    limits = [(0, None if each else 0) for each in allowed.ravel()]
    if equal:
        both = np.append(demand, capacity)
        result = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=both, bounds=limits, method="highs")
        return result.fun, result.x.reshape(n, width), np.full(n, np.nan)
    result = linprog(cost.ravel(), A_ub=columns, b_ub=capacity, A_eq=rows, b_eq=demand, bounds=limits, method="highs")
    return result.fun, result.x.reshape(n, width), -result.ineqlin.marginals[:n]


def arrays(*values):
    return [jnp.asarray(value, float) for value in values]
