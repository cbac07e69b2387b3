"""Lanes are queues: the waits of M/M/1, M/M/c, M/D/1 and M/G/1 come out as theory says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.references.clusters import reference_cluster
from tests.references.queues import erlang_c, mean_wait_mg1, mean_wait_mmc
from torta_jax.schedulers.rules import Rules
from torta_jax.sim.affinity import Weights
from torta_jax.sim.service import UNDECIDED, Batch, Fleet, begin, serve
from torta_jax.sim.state import Physics, initial_state

REPLICAS = 4096
ROWS = 50  # customers per call of `serve`, after which the clock's zero moves as it does from slot to slot
CONFIDENCE, HALF_WIDTH = 0.999, 0.01
SHORT_S, LONG_S, SHORT_SHARE = 0.5, 3.0, 0.8  # the two services of M/G/1
POLICY = Rules(weights=Weights(wait=1.0), max_wait_s=jnp.inf)


def draw_services(kind: str, key, shape):
    """Services of mean 1."""
    if kind == "M":
        return jax.random.exponential(key, shape)
    if kind == "D":
        return jnp.ones(shape)
    return jnp.where(jax.random.uniform(key, shape) < SHORT_SHARE, SHORT_S, LONG_S)


MEAN_SQUARE = {"M": 2.0, "D": 1.0, "G": SHORT_SHARE * SHORT_S**2 + (1 - SHORT_SHARE) * LONG_S**2}


@partial(jax.jit, static_argnums=(0, 1, 2))
def replicas(kind: str, servers: int, lanes: int, rate, warmup: int, blocks: int, key):
    """[REPLICAS, 5] per replica: mean wait, mean and mean square of services, the same of gaps."""
    physics = Physics()
    fleet = Fleet(reference_cluster(1, servers, lanes), jnp.ones(1), physics, jnp.ones(1))

    def one(key):
        def block(index, carry):
            servers, total = carry
            gap_key, service_key = jax.random.split(jax.random.fold_in(key, index))
            gap = jax.random.exponential(gap_key, (ROWS, 1)) / rate
            service = draw_services(kind, service_key, (ROWS, 1))
            ready, zero = jnp.cumsum(gap, axis=0), jnp.zeros((ROWS, 1), jnp.int32)
            batch = Batch(
                mask=jnp.ones((ROWS, 1), bool),
                arrival_s=ready,
                ready_s=ready,
                deadline_s=ready,
                kind=zero,
                model=zero,
                prefill_s=jnp.zeros((ROWS, 1)),
                decode_s=service,
                embedding=jnp.zeros((ROWS, 1, 0)),
                started=jnp.zeros((ROWS, 1), bool),
                forced=zero + UNDECIDED,
            )
            state = POLICY.init(fleet.cluster)
            servers, _, done = serve(
                fleet, POLICY, state, *begin(servers, physics.slot_s), batch, jnp.array([ROWS]), "replicas"
            )
            servers = servers.faded(physics, ready[-1, 0]).shifted(ready[-1, 0])
            found = jnp.stack([done.start_s - ready, service, service**2, gap, gap**2]).mean(axis=(1, 2))
            return servers, total + jnp.where(index >= warmup, found, 0.0)

        start = initial_state(fleet.cluster, physics, POLICY, 1, 0).servers
        return jax.lax.fori_loop(0, warmup + blocks, block, (start, jnp.zeros(5)))[1] / blocks

    return jax.vmap(one, axis_name="replicas")(jax.random.split(key, REPLICAS))


def estimate(found: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Mean wait and half-width of its interval, corrected for what is known to be off in each replica."""
    wait, control = found[:, 0], found[:, 1:] - known
    control = control[:, control.std(axis=0) > 1e-6]
    design = np.column_stack([np.ones(len(wait)), control])
    weights, *_ = np.linalg.lstsq(design, wait, rcond=None)
    residual = wait - design @ weights
    free = len(wait) - design.shape[1]
    error = np.sqrt((residual**2).sum() / free * np.linalg.inv(design.T @ design)[0, 0])
    return weights[0], stats.t.ppf(0.5 + CONFIDENCE / 2, free) * error


def simulated_wait(kind, servers, lanes, rho, customers, seed=0) -> tuple[float, float]:
    """Estimate with about `customers` customers after the start-up has faded."""
    channels = servers * lanes
    rate = rho * channels
    fading = 8 / (1 - np.sqrt(rho)) ** 2 * rho * channels  # customers in eight relaxation times
    warmup, blocks = -(-int(fading) // ROWS), -(-customers // (REPLICAS * ROWS))
    found = replicas(kind, servers, lanes, rate, warmup, blocks, jax.random.key(seed))
    known = np.array([1.0, MEAN_SQUARE[kind], 1 / rate, 2 / rate**2])
    return estimate(np.asarray(found, np.float64), known)


def theory(kind, channels, rho):
    return mean_wait_mg1(rho, 1.0, MEAN_SQUARE[kind]) if channels == 1 else mean_wait_mmc(channels, rho * channels, 1.0)


QUEUES = {  # kind of service, servers, lanes of each
    "M/M/1": ("M", 1, 1),
    "M/D/1": ("D", 1, 1),
    "M/G/1": ("G", 1, 1),
    "M/M/3 on lanes": ("M", 1, 3),
    "M/M/3 on servers": ("M", 3, 1),
}
MILLIONS = {  # of customers for half a width below 1 %, by queue and utilisation
    "M/M/1": {0.3: 2, 0.5: 3, 0.8: 10, 0.95: 110},
    "M/D/1": {0.3: 2, 0.5: 2, 0.8: 5, 0.95: 60},
    "M/G/1": {0.3: 2, 0.5: 3, 0.8: 10, 0.95: 110},
    "M/M/3 on lanes": {0.3: 15, 0.5: 8, 0.8: 14, 0.95: 130},
    "M/M/3 on servers": {0.3: 15, 0.5: 8, 0.8: 14, 0.95: 130},
}
CASES = [
    # the largest takes half a minute each; one of the two ways to three channels is enough for the quick suite
    pytest.param(name, rho, marks=[pytest.mark.slow] if rho > 0.9 or name == "M/M/3 on servers" else [])
    for name in QUEUES
    for rho in MILLIONS[name]
]


@pytest.mark.parametrize(("name", "rho"), CASES)
def test_mean_wait_is_that_of_theory(name, rho):
    kind, servers, lanes = QUEUES[name]
    mean, half = simulated_wait(kind, servers, lanes, rho, MILLIONS[name][rho] * 1_000_000)
    expected = theory(kind, servers * lanes, rho)
    assert half <= HALF_WIDTH * expected, f"half-width {half / expected:.2%}: too few customers"
    assert abs(mean - expected) <= half, f"{mean:.5f} ± {half:.5f}, theory says {expected:.5f}"


def test_closed_forms_agree_with_published_values():
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert mean_wait_mmc(10, 8.5, 1.0) == pytest.approx(0.3532, abs=5e-5)
    assert mean_wait_mg1(0.8, 1.0, 2.0) == pytest.approx(mean_wait_mmc(1, 0.8, 1.0))


@pytest.mark.slow  # half a minute
def test_ciw_agrees_on_three_lanes():
    ciw = pytest.importorskip("ciw")
    kind, servers, lanes = QUEUES["M/M/3 on lanes"]
    rho, runs, length = 0.8, 12, 15_000.0
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=rho * lanes)],
        service_distributions=[ciw.dists.Exponential(rate=1.0)],
        number_of_servers=[lanes],
    )
    waits = []
    for seed in range(runs):
        ciw.seed(seed)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_time(length)
        waits.append(np.mean([r.waiting_time for r in simulation.get_all_records() if r.arrival_date > length / 10]))
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, runs - 1) * np.std(waits, ddof=1) / np.sqrt(runs)
    mean, our_half = simulated_wait(kind, servers, lanes, rho, 10_000_000)
    assert half < 0.15 * mean
    assert abs(mean - np.mean(waits)) <= np.hypot(half, our_half)
