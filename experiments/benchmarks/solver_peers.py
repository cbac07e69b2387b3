"""Other people's solvers on the same problems, one instance after the other unless they have a batch of their own.

POT and OR-tools are no dependencies of this project, since OR-tools wants an older protobuf than its other packages.
Where they are not installed their rows are missing, and the benchmark says so.

    pip install --target DIR --no-deps pot ortools 'protobuf<6.34' absl-py immutabledict
    PYTHONPATH=DIR python -m experiments.benchmarks.solvers
"""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

POT_ITERS = 100


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def ott(max_iterations: int | None):
    """ott-jax under `vmap`: a fixed number of iterations, or (None) its defaults."""
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    fixed: dict[str, Any] = {"min_iterations": max_iterations, "max_iterations": max_iterations}
    solver = Sinkhorn(**fixed) if max_iterations else Sinkhorn()

    @jax.jit
    @jax.vmap
    def solve(cost, demand, capacity):
        return solver(LinearProblem(Geometry(cost, epsilon=0.05 * cost.mean()), demand, capacity)).matrix

    return solve


def emd(cost, demand, capacity) -> list[np.ndarray]:
    """Exact plans by POT's network simplex, in float64, without its checks."""
    import ot  # pyright: ignore[reportMissingImports]

    return [
        np.asarray(ot.emd(demand[i], capacity[i], cost[i], check_marginals=False, center_dual=False))
        for i in range(len(cost))
    ]


def pot_batch(cost, demand, capacity):
    """POT's own batch of Sinkhorn iterations, in NumPy; each problem in units of its mean cost."""
    from ot.batch import solve_batch  # pyright: ignore[reportMissingImports]

    cost = cost / cost.mean(axis=(1, 2), keepdims=True)
    return np.asarray(solve_batch(cost, 0.05, demand, capacity, max_iter=POT_ITERS, tol=0.0).plan)


def scipy_lsa(value, room, outside) -> list[float]:
    """Best total values by SciPy's assignment: every place is a column, and every task has one outside."""
    return [_lsa(*case) for case in zip(value, room, outside, strict=True)]


def _lsa(value, room, outside) -> float:
    columns = np.repeat(np.arange(value.shape[1]), np.minimum(room, value.shape[0]))
    staying = np.where(np.eye(value.shape[0], dtype=bool), outside, -(10**6))
    table = np.hstack([value[:, columns], staying])
    return table[linear_sum_assignment(table, maximize=True)].sum()


def min_cost_flow(value, room, outside) -> list[int]:
    """Best total values by OR-tools' minimum-cost flow on the graph of tasks, servers and the outside."""
    tasks, servers = np.shape(value)[1:]
    out, sink = tasks + servers, tasks + servers + 1
    task, server, one = np.arange(tasks), np.arange(tasks, out + 1), np.ones(tasks, int)
    tails = np.concatenate([np.repeat(task, servers), task, server])  # the same graph for all
    heads = np.concatenate([np.tile(server[:-1], tasks), np.full(tasks, out), np.full(server.size, sink)])
    pairs, nodes, supplies = np.ones(tails.size - server.size, int), np.append(task, sink), np.append(one, -tasks)
    return [
        _flow(
            (
                tails,
                heads,
                np.concatenate([pairs, places, [tasks]]),
                -np.concatenate([worth.ravel(), staying, 0 * server]),
            ),
            (nodes, supplies),
        )
        for worth, places, staying in zip(value, room, outside, strict=True)
    ]


def _flow(arcs, supplies) -> int:
    from ortools.graph.python.min_cost_flow import SimpleMinCostFlow  # pyright: ignore[reportMissingImports]

    flow = SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(*arcs)
    flow.set_nodes_supplies(*supplies)
    assert flow.solve() == flow.OPTIMAL
    return -flow.optimal_cost()


def greedy():
    """The paper's Algorithm 1 as a scan: tasks in order, each to the best server with a place left."""

    @jax.jit
    @jax.vmap
    def solve(value, room, outside):
        def step(left, task):
            row, staying = task
            row = jnp.where(left > 0, row, -jnp.inf)
            best = jnp.argmax(row)
            takes = row[best] > staying
            return left - (takes & (jnp.arange(left.size) == best)), jnp.where(takes, row[best], staying)

        return jax.lax.scan(step, room, (value, outside))[1].sum()

    return solve


def hungarian(places: int):
    """optax's Hungarian algorithm; `places` is the batch's largest total room."""
    import optax

    @jax.jit
    @jax.vmap
    def solve(value, room, outside):
        column = jnp.searchsorted(jnp.cumsum(room), jnp.arange(places), side="right")
        there = column < room.size
        inside = jnp.where(there, value[:, jnp.minimum(column, room.size - 1)], -1e6)
        staying = jnp.where(jnp.eye(value.shape[0], dtype=bool), outside, -1e6)
        table = jnp.concatenate([inside, staying], axis=1)
        rows, columns = optax.assignment.hungarian_algorithm(-table)
        return table[rows, columns].sum()

    return solve
