"""Transport and assignment problems that look like those of a fleet; the tests judge the solvers on them, too."""

import numpy as np

KINDS = ("uniform", "typed", "ties", "identical", "same")


def transport(rng: np.random.Generator, regions: int, load: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost [R, R], demand [R] and capacity [R]: half the cost is price, half distance, each of mean 1/2."""
    place = rng.uniform(size=(regions, 2))
    distance = np.linalg.norm(place[:, None] - place, axis=-1)
    price = rng.uniform(0.4, 1.6, regions)
    cost = 0.5 * price / price.mean() + 0.5 * distance / distance.mean()
    demand, capacity = rng.dirichlet(np.full(regions, 5.0), 2)
    return cost, demand, capacity / load


def assignment(
    rng: np.random.Generator, kind: str, tasks: int, servers: int, load: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integer values [N, S] in [0, 1000], room [S] that sums to N / load, and values outside [N].

    `typed` has five types of tasks, four of servers, a load term, servers that know the model, and noise; `ties` is it
    rounded to twentieths. In `identical` all tasks are alike, in `same` all servers are, too.
    """
    if kind == "uniform":
        value = rng.uniform(size=(tasks, servers))
    elif kind in ("typed", "ties"):
        match = rng.uniform(0.2, 1, (5, 4))[rng.integers(0, 5, tasks)][:, rng.integers(0, 4, servers)]
        known = 0.3 * (rng.uniform(size=(tasks, servers)) < 0.2)
        value = np.clip(match + known - rng.uniform(0, 0.3, servers) + 0.01 * rng.normal(size=(tasks, servers)), 0, 1)
        value = np.round(value * 20) / 20 if kind == "ties" else value
    elif kind == "identical":
        value = np.broadcast_to(rng.uniform(size=servers), (tasks, servers))
    else:
        value = np.full((tasks, servers), 0.5)
    outside = rng.choice([0.0, 0.1, 0.4]) * rng.uniform(size=tasks)
    room = rooms(rng, servers, round(tasks / load))
    return np.round(1000 * value).astype(int), room, np.round(1000 * outside).astype(int)


def rooms(rng: np.random.Generator, servers: int, total: int) -> np.ndarray:
    """[S] places per server that sum to `total`."""
    return np.bincount(rng.choice(servers, total, p=rng.dirichlet(np.full(servers, 8.0))), minlength=servers)
