"""An independent event simulation, told only what a policy decided, finds the same tasks, times, energy and books.

And from these what the policy had been shown before it decided.
"""

import jax
import numpy as np
import pytest

from tests.references.books import Books
from tests.references.event_simulation import OVERFLOW, Fleet, Task
from tests.references.observation import Observer
from tests.references.worlds import FLEETS, SHARED, Size, fleets, named_policies, play, recorded
from torta_jax.sim.account import DROPS, OUTCOMES
from torta_jax.sim.metrics import BIN_EDGES_S, TIMES
from torta_jax.sim.observe import PER_S

TOLERANCE = 1e-9  # seconds; of other numbers it is relative
COARSE = {"service_s": 0.5 / PER_S, "kind_share": 1e-7}  # rounded to whole steps; counts divided as float32

AMPLE = Size(regions=3, servers=4, lanes=2, slots=14, max_tasks=160, carry_tasks=320, region_tasks=192)
TALL = Size(regions=5, servers=4, lanes=1, slots=20, max_tasks=96, carry_tasks=64, region_tasks=24)
INFORMATION = ("online", "slot")
HAPPEN = ("late", "unmatched", "model_loads", "migrations", "server_starts", "switching_cost")


def run(size, seed, count):
    """Worlds, results and policies of many random fleets, as NumPy arrays."""
    keys = jax.random.split(jax.random.key(seed), count)
    worlds, policies = recorded(fleets(keys, size), keys), named_policies(count)
    return jax.tree.map(np.asarray, (worlds, play(worlds, policies), policies))


def replay(size, world, result, policy):
    """Replay one fleet's decisions and compare; returns how often each thing happened."""
    cluster, workload, scenario, physics = world
    totals, (metrics, record, observation, kind_share, matrix) = result
    tasks = workload.tasks
    hardware = {name: value.tolist() for name, value in vars(cluster).items()}
    fleet = Fleet(
        hardware,
        workload.model_gb.tolist(),
        slot_s=float(physics.slot_s),
        gain=float(physics.prefix_gain),
        decay=float(physics.prefix_decay_per_s),
        lose_running=bool(physics.lose_running),
        carry_tasks=size.carry_tasks,
        region_tasks=size.region_tasks,
    )
    books = Books(fleet, float(workload.start_hour_utc))
    observer = Observer(books, float(physics.service_guess_s), float(physics.service_weight))
    counts, spent = np.zeros_like(record.counts), []
    prices = []
    seen = dict.fromkeys(HAPPEN, 0)
    for t in range(size.slots):
        begin, alive, price_factor = fleet.now, scenario.alive[t].tolist(), scenario.price_factor[t].tolist()
        compare_observation(observation, kind_share, matrix, observer.look(alive, price_factor), t)
        new = [new_task(tasks, t, n, begin) for n in np.flatnonzero(tasks.mask[t])]
        rows = [*range(len(fleet.tasks)), *(size.carry_tasks + n for n in range(len(new)))]
        pool = jax.tree.map(lambda x, t=t: x[t], record.pool)
        order = record.order[t].tolist()
        decisions = [(int(pool.server[row]), order[row]) if order[row] >= 0 else None for row in rows]
        routes = pool.region[rows].tolist()
        on = record.servers.active[t].tolist()
        held = fleet.run_slot(alive, new, on, routes, decisions)
        for row, task in zip(rows, held, strict=True):
            compare(pool, record.outcome[t, row], row, task, begin)
            counts[t, task.outcome, task.origin, task.kind] += 1
        assert (record.outcome[t] < len(OUTCOMES)).sum() == len(rows)
        counts[t, OVERFLOW] += tasks.overflow[t]
        compare_usage(fleet, record, t)
        book, lives = books.close(held, new, int(tasks.overflow[t].sum()), price_factor)
        compare_books(metrics, book, t)
        observer.learn(new)
        spent += lives
        prices.append([books.price(region, begin) for region in range(size.regions)])
        for name in HAPPEN:
            seen[name] += book[name]
    np.testing.assert_array_equal(record.counts, counts)
    compare_totals(totals, counts, tasks, spent)
    seen = dict(zip(OUTCOMES, counts.sum(axis=(0, 2, 3)).tolist(), strict=True)) | seen
    shocks = int((scenario.price_factor != 1).any(axis=0).sum())
    return seen | {"hours change": int((np.diff(prices, axis=0) != 0).any()), "price shocks": shocks}


def new_task(tasks, t, n, begin):
    arrival = begin + float(tasks.arrival_s[t, n])
    return Task(
        arrival=arrival,
        deadline=arrival + float(tasks.patience_s[t, n]),
        origin=int(tasks.origin[t, n]),
        kind=int(tasks.kind[t, n]),
        model=int(tasks.model[t, n]),
        prefill=float(tasks.prefill_s[t, n]),
        decode=float(tasks.decode_s[t, n]),
        embedding=tasks.embedding[t, n].tolist(),
        region=int(tasks.origin[t, n]),
        ready=arrival,
    )


def compare(pool, outcome, row, task, begin):
    assert OUTCOMES[outcome] == OUTCOMES[task.outcome]
    assert (pool.origin[row], pool.kind[row], pool.model[row]) == (task.origin, task.kind, task.model)
    assert begin + pool.arrival_s[row] == pytest.approx(task.arrival, abs=TOLERANCE, rel=0)
    if task.job and task.job.start < np.inf:
        assert begin + pool.start_s[row] == pytest.approx(task.job.start, abs=TOLERANCE, rel=0)
        end = (
            task.job.finish
            if OUTCOMES[outcome] == "completed"
            else task.job.start + task.job.loading + task.job.compute
        )
        assert begin + pool.finish_s[row] == pytest.approx(end, abs=TOLERANCE, rel=0)


def compare_usage(fleet, record, t):
    found = np.array([[fleet.usage(r, s) for s in range(len(row))] for r, row in enumerate(fleet.servers)])
    usage = jax.tree.map(lambda x: x[t], record.usage)
    names = ("busy_s", "on_s", "warming_s", "energy_kwh")
    for i, name in enumerate(names):
        np.testing.assert_allclose(getattr(usage, name), found[..., i], rtol=0, atol=TOLERANCE, err_msg=name)


def compare_observation(observation, kind_share, matrix, look, t):
    """Everything the policy was shown when the slot started, counts exactly."""
    shown = {**vars(observation), "kind_share": kind_share}
    assert look.keys() == shown.keys() - {"cluster", "matrix"}
    for name, expected in look.items():
        found = shown[name][t]
        if found.dtype == bool or np.issubdtype(found.dtype, np.integer) or name == "arrivals":
            np.testing.assert_array_equal(found, expected, err_msg=name)
        else:
            atol = COARSE.get(name, TOLERANCE)
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)
    before = matrix[t - 1] if t else np.eye(len(matrix[t]))
    np.testing.assert_array_equal(shown["matrix"][t], before, err_msg="matrix")


def compare_books(metrics, book, t):
    """Every number of the slot's metrics, counts exactly."""
    assert book.keys() == vars(metrics).keys()
    for name, expected in book.items():
        found = getattr(metrics, name)[t]
        if np.issubdtype(found.dtype, np.integer):
            np.testing.assert_array_equal(found, expected, err_msg=name)
        else:
            atol = TOLERANCE if name.endswith("_s") else 1e-3 * TOLERANCE
            np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=atol, err_msg=name)


def compare_totals(totals, counts, tasks, spent):
    """Counts of the whole run by origin and kind, and the histograms."""
    by_outcome = counts.sum(axis=0)
    np.testing.assert_array_equal(totals.completed, by_outcome[0])
    np.testing.assert_array_equal(totals.dropped, by_outcome[DROPS:])
    arrived = tasks.overflow.sum(axis=0)
    np.add.at(arrived, (tasks.origin[tasks.mask], tasks.kind[tasks.mask]), 1)
    np.testing.assert_array_equal(totals.arrived, arrived)
    for row, name in enumerate(TIMES):
        times, below = np.array([one[name] for one in spent]), np.cumsum(totals.histogram[row])
        # A time on an edge, to the last bits, may be in either bin.
        fewest, most = ((times[:, None] + slack < BIN_EDGES_S[1:]).sum(axis=0) for slack in (TOLERANCE, -TOLERANCE))
        assert ((fewest <= below) & (below <= most)).all(), name
        assert below[-1] == len(times), name


def check(size, seed, count):
    """Compare `count` random fleets; returns what they went through."""
    with jax.enable_x64(True):
        every = run(size, seed, count)
    seen = {}
    for i in range(count):
        one = jax.tree.map(lambda x, i=i: x[i], every)
        for name, times in replay(size, *one).items():
            seen[name] = seen.get(name, 0) + times
    return seen


@pytest.mark.parametrize("information", INFORMATION)
def test_event_simulation_gives_the_same_tasks_servers_and_books_in_every_slot(information):
    seen = check(SHARED._replace(information=information), seed=1, count=FLEETS)
    assert min(seen.values()) > 0, f"something never happened: {seen}"


@pytest.mark.slow  # 1,000 fleets, about five minutes
@pytest.mark.parametrize("information", INFORMATION)
@pytest.mark.parametrize(("size", "count"), [(AMPLE, 168), (SHARED, 168), (TALL, 168)])
def test_event_simulation_agrees_on_a_thousand_fleets(size, count, information):
    seen = check(size._replace(information=information), seed=2, count=count)
    assert seen["completed"] > 10 * count
    assert min(seen.values()) > count / 10, f"something hardly ever happened: {seen}"
