"""Every task starts and ends when an independent event simulation says so, and every server uses its energy."""

import jax
import numpy as np
import pytest

from tests.references.event_simulation import Fleet, Task
from tests.references.worlds import Size, arrivals, named_policies, random_world, run_world
from torta_jax import schedulers
from torta_jax.sim.account import OUTCOMES

TOLERANCE_S = 1e-9

AMPLE = Size(regions=3, servers=4, lanes=2, slots=14, max_tasks=160, carry_tasks=320, region_tasks=192)
TIGHT = Size(regions=4, servers=3, lanes=1, slots=14, max_tasks=32, carry_tasks=24, region_tasks=7)
TALL = Size(regions=5, servers=4, lanes=1, slots=20, max_tasks=96, carry_tasks=64, region_tasks=24)
INFORMATION = ("online", "slot")


def run(size, seed, fleets):
    """Worlds, records, arrivals and policies of many random fleets, as NumPy arrays."""
    keys = jax.random.split(jax.random.key(seed), fleets)
    policies = named_policies(fleets)

    @jax.jit
    def everything(keys, policies):
        def one(key, policy):
            _, (_, record) = run_world(key, policy, size, keep=lambda record: record)
            return random_world(key, size), record, arrivals(key, size)

        return jax.vmap(one)(keys, policies)

    return jax.tree.map(np.asarray, (*everything(keys, policies), policies))


def replay(size, world, record, tasks, policy):
    """Replay one fleet's decisions and compare; returns how often each thing happened."""
    cluster, workload, scenario, physics = world
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
    seen = dict.fromkeys((*OUTCOMES, "loads", "migrations"), 0)
    for t in range(size.slots):
        begin = fleet.now
        new = [new_task(tasks, t, n, begin) for n in np.flatnonzero(tasks.mask[t])]
        rows = [*range(len(fleet.tasks)), *(size.carry_tasks + n for n in range(len(new)))]
        pool = jax.tree.map(lambda x, t=t: x[t], record.pool)
        server = [int(pool.server[row]) if record.taken[t, row] else None for row in rows]
        routes = pool.region[rows].tolist()
        on = record.servers.active[t].tolist()
        held = fleet.run_slot(scenario.alive[t].tolist(), new, on, routes, server, bool(policy.rule.reroute))
        for row, task in zip(rows, held, strict=True):
            compare(pool, record.outcome[t, row], row, task, begin)
            seen[OUTCOMES[task.outcome]] += 1
            if record.taken[t, row] and task.job:
                seen["loads"] += task.job.loading > 0
                seen["migrations"] += task.started
        assert (record.outcome[t] < len(OUTCOMES)).sum() == len(rows)
        compare_usage(fleet, record, t)
    return seen


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
    assert begin + pool.arrival_s[row] == pytest.approx(task.arrival, abs=TOLERANCE_S, rel=0)
    if task.job and task.job.start < np.inf:
        assert begin + pool.start_s[row] == pytest.approx(task.job.start, abs=TOLERANCE_S, rel=0)
        end = (
            task.job.finish
            if OUTCOMES[outcome] == "completed"
            else task.job.start + task.job.loading + task.job.compute
        )
        assert begin + pool.finish_s[row] == pytest.approx(end, abs=TOLERANCE_S, rel=0)


def compare_usage(fleet, record, t):
    found = np.array([[fleet.usage(r, s) for s in range(len(row))] for r, row in enumerate(fleet.servers)])
    usage = jax.tree.map(lambda x: x[t], record.usage)
    names = ("busy_s", "on_s", "warming_s", "energy_kwh")
    for i, name in enumerate(names):
        np.testing.assert_allclose(getattr(usage, name), found[..., i], rtol=0, atol=TOLERANCE_S, err_msg=name)


def check(size, seed, fleets):
    """Compare `fleets` random fleets; returns what they went through."""
    with jax.enable_x64(True):
        worlds, records, tasks, policies = run(size, seed, fleets)
    seen = {}
    for i in range(fleets):
        one = jax.tree.map(lambda x, i=i: x[i], (worlds, records, tasks, policies))
        for name, count in replay(size, *one).items():
            seen[name] = seen.get(name, 0) + count
    return seen


@pytest.mark.parametrize("information", INFORMATION)
def test_event_simulation_gives_the_same_start_and_finish_of_every_task(information):
    seen = check(TIGHT._replace(information=information), seed=1, fleets=7 * len(schedulers.NAMES))
    assert min(seen.values()) > 0, f"something never happened: {seen}"


@pytest.mark.slow  # 1,000 fleets, about five minutes
@pytest.mark.parametrize("information", INFORMATION)
@pytest.mark.parametrize(("size", "fleets"), [(AMPLE, 168), (TIGHT, 168), (TALL, 168)])
def test_event_simulation_agrees_on_a_thousand_fleets(size, fleets, information):
    seen = check(size._replace(information=information), seed=2, fleets=fleets)
    assert seen["completed"] > 10 * fleets
    assert min(seen.values()) > fleets / 10, f"something hardly ever happened: {seen}"
