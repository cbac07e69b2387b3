"""Energy and load balance, reckoned by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from torta_jax.schedulers.rules import Rules
from torta_jax.sim.energy import J_PER_KWH, load_balance, usage
from torta_jax.sim.state import Physics, initial_state

SLOT_S = 45.0


def use(active, warm_s, free_s, idle_s):
    """One server of two lanes: 100 W idle, 400 W active, 150 W warming."""
    cluster = reference_cluster(1, 1, lanes=2)
    servers = initial_state(cluster, Physics(carry_tasks=1), Rules(), 1, 0).servers
    servers = servers.replace(
        active=jnp.array([[active]]), warm_s=jnp.array([[warm_s]]), free_s=jnp.array(free_s, float).reshape(1, 2, 1)
    )
    used = usage(cluster, servers, jnp.array(idle_s, float).reshape(1, 2, 1), SLOT_S)
    return float(used.busy_s[0, 0]), float(used.on_s[0, 0]), float(used.warming_s[0, 0]), float(used.energy_kwh[0, 0])


@pytest.mark.parametrize(
    ("case", "active", "warm_s", "free_s", "idle_s", "busy", "on", "warming"),
    [
        ("idle", True, -9.0, [-1, -1], [0, 0], 0, 45, 0),
        ("one lane busy to the end, with a pause of 5 s", True, 0.0, [80, -3], [5, 0], 40, 45, 0),
        ("both lanes done within the slot", True, 0.0, [30, 12], [2, 0], 40, 45, 0),
        ("warming for the first 20 s, then busy for 10", True, 20.0, [35, 0], [25, 0], 10, 25, 20),
        ("warming all along", True, 70.0, [0, 0], [0, 0], 0, 0, 45),
        ("draining for 18 s", False, -9.0, [18, 10], [0, 0], 28, 18, 0),
        ("off", False, -9.0, [-7, -7], [0, 0], 0, 0, 0),
        ("stopped while warming", False, 60.0, [0, 0], [0, 0], 0, 0, 0),
    ],
)
def test_seconds_and_energy_of_a_server(case, active, warm_s, free_s, idle_s, busy, on, warming):
    joule = 100 * on + 300 * busy / 2 + 150 * warming
    assert use(active, warm_s, free_s, idle_s) == pytest.approx((busy, on, warming, joule / J_PER_KWH), abs=1e-6), case


def test_load_balance_is_one_over_one_plus_the_variation():
    utilisation, active = np.array([[0.2, 0.4], [0.9, 0.6]]), np.array([[True, True], [False, True]])
    values = utilisation[active]
    expected = 1 / (1 + values.std() / values.mean())
    assert load_balance(jnp.asarray(utilisation), jnp.asarray(active)) == pytest.approx(expected, rel=1e-6)


def test_load_balance_is_one_where_all_are_alike_or_nothing_runs():
    active = jnp.ones((2, 2), bool)
    assert load_balance(jnp.full((2, 2), 0.3), active) == pytest.approx(1)
    assert load_balance(jnp.zeros((2, 2)), active) == 1
    assert load_balance(jnp.ones((2, 2)), ~active) == 1
