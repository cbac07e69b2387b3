"""The auction against SciPy's assignment on replicated servers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from experiments.benchmarks import instances
from experiments.benchmarks.instances import KINDS
from torta_jax.errors import InputError
from torta_jax.solvers import auction, bidding, soft
from torta_jax.solvers.matching import UNMATCHED, assignment
from torta_jax.types import Status


def instance(kind, rng, tasks=24, servers=8, load=1.0):
    return instances.assignment(rng, kind, tasks, servers, load)


def optimum(value, room, outside):
    """Best total value, every place a column, and a column outside for every task."""
    columns = np.repeat(np.arange(value.shape[1]), np.minimum(room, value.shape[0]))
    staying = np.where(np.eye(value.shape[0], dtype=bool), outside, -(10**6))
    table = np.hstack([value[:, columns], staying])
    return table[linear_sum_assignment(table, maximize=True)].sum()


def worth(value, outside, server):
    return np.where(server >= 0, value[np.arange(len(server)), server], outside).sum()


def assert_matching(found, value, room, outside):
    """It is a matching, worth what it says, and no better one is possible than it says."""
    server = np.asarray(found.server)
    assert ((server >= UNMATCHED) & (server < value.shape[1])).all()
    assert (np.bincount(server[server >= 0], minlength=value.shape[1]) <= room).all()
    assert float(found.value) == pytest.approx(worth(value, outside, server), rel=1e-5, abs=1e-5)
    assert float(found.dual_value) >= optimum(value, room, outside) * (1 - 1e-6)


def solve(value, room, outside, number: type = int, **more):
    """Of one type and shape nearly always: each is a program of its own, which takes longer to compile than to run."""
    return auction.solve(jnp.asarray(value, number), jnp.asarray(room), outside=jnp.asarray(outside, number), **more)


def solved(kind, load, number):
    """24 instances, and their matchings in one batch, with values as `number`."""
    rng = np.random.default_rng(KINDS.index(kind))
    cases = [instance(kind, rng, load=load) for _ in range(24)]
    value, room, outside = (np.stack(part) for part in zip(*cases, strict=True))
    solve = jax.vmap(lambda value, room, outside: auction.solve(value, room, outside=outside))
    return cases, jax.jit(solve)(jnp.asarray(value, number), jnp.asarray(room), jnp.asarray(outside, number))


@pytest.mark.parametrize("load", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_integers_are_solved_exactly_and_the_certificate_proves_it(kind, load):
    cases, found = solved(kind, load, int)
    for i, case in enumerate(cases):
        one = jax.tree.map(lambda x, i=i: x[i], found)
        assert_matching(one, *case)
        assert one.status == Status.CONVERGED
        assert int(one.value) == optimum(*case) == int(one.dual_value)


@pytest.mark.parametrize("load", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_floats_are_solved_to_epsilon_of_their_range_per_task(kind, load):
    cases, found = solved(kind, load, float)
    for i, case in enumerate(cases):
        one = jax.tree.map(lambda x, i=i: x[i], found)
        assert_matching(one, *case)
        assert one.status == Status.CONVERGED
        assert one.value >= optimum(*case) - 24 * 1e-3 * 1000
        assert one.dual_value - one.value <= 24 * 1e-3 * 1000 * 1.01


@pytest.mark.parametrize("number", [np.int32, np.float64])
def test_numbers_of_64_bits_are_solved_too(number):
    with jax.enable_x64(True):
        value, room, outside = instance("typed", np.random.default_rng(2))
        found = auction.solve(value.astype(number), room, outside=outside.astype(number))
        assert found.value >= optimum(value, room, outside) - (24 if number is np.float64 else 0)
        assert found.status == Status.CONVERGED


def test_padding_changes_nothing():
    value, room, outside = instance("typed", np.random.default_rng(3))
    plain = solve(value, room, outside)
    wide = np.pad(value, ((0, 9), (0, 3)), constant_values=5000)
    padded = auction.solve(
        jnp.asarray(wide),
        jnp.asarray(np.pad(room, (0, 3))),
        outside=jnp.asarray(np.pad(outside, (0, 9), constant_values=7)),
        task_mask=jnp.arange(33) < 24,
    )
    assert int(plain.value) == int(padded.value) == optimum(value, room, outside)
    assert (padded.server[24:] == UNMATCHED).all()
    assert padded.server.max() < 8


def test_forbidden_pairs_are_not_used_even_if_nothing_else_is_left():
    rng = np.random.default_rng(4)
    value, room, outside = instance("uniform", rng)
    mask = rng.uniform(size=value.shape) < 0.3
    mask[0] = False
    found = solve(value, room, outside, mask=mask)
    server = np.asarray(found.server)
    assert server[0] == UNMATCHED
    assert all(mask[i, j] for i, j in enumerate(server) if j != UNMATCHED)
    assert int(found.value) == optimum(np.where(mask, value, -(10**5)), room, outside)


def test_a_warm_start_takes_fewer_rounds_and_is_as_good():
    value, room, outside = instance("typed", np.random.default_rng(5))
    first = solve(value, room, outside, float)
    cold, warm = (solve(value, room, outside, float, init_price=price) for price in (np.zeros(8), first.price))
    assert warm.rounds < cold.rounds
    for found in (cold, warm):
        assert_matching(found, value, room, outside)
        assert found.value >= optimum(value, room, outside) - 24


def test_prices_far_too_high_come_down_again():
    value, room, outside = instance("typed", np.random.default_rng(6), load=0.7)
    found = solve(value, room, outside, init_price=np.full(8, 900.0))
    assert int(found.value) == optimum(value, room, outside)
    full = np.bincount(np.asarray(found.server)[np.asarray(found.server) >= 0], minlength=8) == room
    assert (np.asarray(found.price)[~full] == 0).all()


def test_where_there_is_no_task_nothing_has_a_price_whatever_it_was_before():
    nobody, prices = np.zeros(24, bool), np.arange(8.0)
    found = solve(np.ones((24, 8)), np.ones(8, int), np.zeros(24), float, task_mask=nobody, init_price=prices)
    assert (found.server == UNMATCHED).all()
    np.testing.assert_allclose(found.price, 0, atol=1e-30)
    assert found.status == Status.CONVERGED


def test_a_spent_budget_says_so_and_the_certificate_still_holds():
    value, room, _ = instance("ties", np.random.default_rng(7))
    found = solve(value, room, np.zeros(24), float, init_price=np.zeros(8), max_rounds=3)
    assert found.status == Status.BUDGET_SPENT
    assert found.rounds == 3
    assert_matching(found, value, room, np.zeros(24))


def test_no_places_at_all_leave_everyone_outside():
    value, _, outside = instance("uniform", np.random.default_rng(8))
    found = solve(value, np.zeros(8, int), outside)
    assert (found.server == UNMATCHED).all()
    assert int(found.value) == int(found.dual_value) == outside.sum()


@pytest.mark.parametrize("load", [0.7, 1.0, 1.5])
def test_soft_prices_and_regret_come_within_two_percent(load):
    rng = np.random.default_rng(9)
    for _ in range(8):
        case = instance("typed", rng, load=load)
        value, room, outside = case
        found = soft.solve(jnp.asarray(value, float), room, outside=jnp.asarray(outside, float))
        assert_matching(found, *case)
        assert found.value >= 0.98 * optimum(*case)
        assert found.dual_value <= 1.02 * optimum(*case)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.floats(0.3, 3))
def test_any_instance_of_integers_is_solved_exactly(seed, kind, load):
    case = instance(kind, np.random.default_rng(seed), load=load)
    found = solve(*case)
    assert_matching(found, *case)
    assert found.status == Status.CONVERGED
    assert int(found.value) == optimum(*case)


@pytest.mark.slow  # 10,000 instances
@pytest.mark.parametrize("load", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_instances_of_integers_are_solved_exactly(kind, load):
    rng = np.random.default_rng([KINDS.index(kind), round(10 * load)])
    solve = jax.jit(jax.vmap(lambda value, room, outside: auction.solve(value, room, outside=outside)))
    for _ in range(6):
        cases = [instance(kind, rng, tasks=48, servers=12, load=load) for _ in range(112)]
        found = solve(*(jnp.asarray(np.stack(part), jnp.int32) for part in zip(*cases, strict=True)))
        assert (found.status == Status.CONVERGED).all()
        np.testing.assert_array_equal(found.value, [optimum(*case) for case in cases])


@pytest.mark.parametrize("start", [np.nan, np.inf, -np.inf])
def test_prices_that_are_no_numbers_are_a_start_like_any_other(start):
    value, room, outside = instance("typed", np.random.default_rng(8))
    solve = jax.jit(lambda start: auction.solve(value, room, outside=outside, init_price=start))
    found = solve(jnp.full(8, start))
    assert found.status == Status.CONVERGED
    assert int(found.value) == optimum(value, room, outside)


@pytest.mark.parametrize(
    ("value", "room"),
    [
        ([[1.0, np.nan], [0.5, 0.2]], [1, 1]),
        ([[1.0, np.inf], [0.5, 0.2]], [1, 1]),
        ([[1.0, 0.1], [0.5, 0.2]], [np.nan, 1]),
        ([[1.0, 0.1], [0.5, 0.2]], [1.5, 1]),
        ([[1.0, 0.1], [0.5, 0.2]], [1, -1]),
        ([[5, 3], [2, 1]], [1, -1]),
        ([[2**31 - 1, -(2**31) + 5], [5, -7]], [1, 1]),  # their difference wraps around
        ([[2**30 + 1, 2**30], [2**30, 2**30]], [1, 1]),  # their sum does
    ],
)
@pytest.mark.parametrize("solve", [auction.solve, soft.solve])
def test_values_that_are_not_allowed_say_so_when_traced(solve, value, room):
    whole = np.issubdtype(np.asarray(value).dtype, np.integer)
    outside = jnp.full(2, np.min(value) if whole else 0.0, int if whole else float)
    found = jax.jit(lambda *problem: solve(*problem, outside=outside))(
        jnp.asarray(value), jnp.asarray(room, outside.dtype)
    )
    assert found.status == Status.NON_FINITE
    assert found.dual_value >= 2**31 - 1


@pytest.mark.parametrize("never", [-1e3, -1e9, -3e38])
@pytest.mark.parametrize("solve", [auction.solve, soft.solve])
def test_what_is_worth_less_than_staying_outside_does_not_blur_the_rest(solve, never):
    rng = np.random.default_rng(10)
    value, room, outside = rng.uniform(size=(24, 8)), np.full(8, 3), jnp.zeros(24)
    value = np.where(rng.uniform(size=value.shape) < 0.4, never, value).astype(np.float32)
    best = optimum(np.maximum(value, -1), room, outside)
    found = solve(jnp.asarray(value), jnp.asarray(room), outside=outside)
    assert found.value >= (best - 24e-3 if solve is auction.solve else 0.98 * best)
    assert best - 1e-5 <= found.dual_value <= found.value + 0.2


def test_a_fraction_outside_counts_beside_whole_values():
    assert int(auction.solve(np.array([[0]]), np.array([1]), outside=np.array([-0.5])).server[0]) == 0
    assert float(auction.solve(np.array([[0]]), np.array([1]), outside=np.array([0.7])).value) == pytest.approx(0.7)


def test_whatever_is_not_zero_in_a_mask_is_allowed():
    assert int(auction.solve(np.array([[2.0, 1.0]]), np.array([1, 1]), mask=np.array([[0.5, 1.0]])).server[0]) == 0


@pytest.mark.parametrize("kind", ["identical", "same"])
def test_the_usual_budget_suffices_where_tasks_are_alike_whatever_the_start(kind):
    rng = np.random.default_rng(11)
    case = instance(kind, rng, tasks=300, servers=12)
    found = solve(*case, init_price=rng.uniform(0, 1000, 12))
    assert found.status == Status.CONVERGED
    assert int(found.value) == optimum(*case)


def test_a_round_prices_only_servers_that_are_full_and_leaves_bidders_content_to_epsilon():
    value, room, outside = (jnp.asarray(part) for part in instance("typed", np.random.default_rng(12)))
    problem = assignment(value.astype(float), room, outside.astype(float))
    state, epsilon = bidding.opening(problem, jnp.zeros(8), 1e-3), 1e-3

    @jax.jit
    def next_round(state):
        task = jnp.where(state.server == bidding.UNDECIDED, jnp.arange(24), 24)
        return bidding.next_round(problem, bidding.forward(problem, state, task))

    for _ in range(6):
        state = next_round(state)
        count = np.bincount(np.asarray(state.server)[(state.server >= 0) & (state.server < 8)], minlength=8)
        assert (count <= problem.room).all()
        assert (np.asarray(state.price)[count < problem.room] == 0).all()
        net = np.hstack([problem.value - state.price, problem.outside[:, None]])
        placed = np.asarray(state.server) >= 0
        own = net[np.arange(24), np.asarray(state.server)]
        assert (own[placed] >= net.max(axis=1)[placed] - epsilon - 1e-6).all()
        if not state.bidding:
            break
    assert placed.sum() > 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": np.zeros(3)}, r"value: an array \[N, S\] is needed"),
        ({"value": [["a", "b"], ["c", "d"]]}, "value: an array of real numbers is needed"),
        ({"value": [[1.0, 2.0], [1.0]]}, "value: an array of real numbers is needed"),
        ({"outside": ["a", "b"]}, "outside: an array of real numbers is needed"),
        ({"mask": np.array([[1.0, np.nan], [0.0, 1.0]])}, r"mask\[0, 1\] = nan: a finite number of at least 0"),
        ({"value": np.array([[1.0, np.inf], [0.0, 1.0]])}, r"value\[0, 1\] = inf: a finite number is needed"),
        ({"room": np.array([1])}, r"room: shape \(2,\) is needed \(one number per column of value\)"),
        ({"room": np.array([1, -1])}, r"room\[1\] = -1: a finite number of at least 0 is needed"),
        ({"room": np.array([1.5, 1])}, "room: whole numbers are needed"),
        ({"room": np.array([2**31, 1])}, r"room: numbers below 2\*\*31 are needed"),
        (
            {"value": np.array([[0, 2**30], [0, 1]])},
            "integers .* differ by at most 89478485",
        ),
        ({"outside": np.zeros(3)}, r"outside: shape \(2,\) is needed"),
        ({"task_mask": np.ones(3, bool)}, r"task_mask: shape \(2,\) is needed"),
        ({"mask": np.ones((2, 3), bool)}, r"mask: shape \(2, 2\) is needed"),
        (
            {"value": np.array([[0, 2**30], [0, 1]]), "mask": np.ones((2, 2), bool)},
            "integers .* differ by at most 89478485",
        ),
        (
            {"value": np.full((2, 2), 2**40), "outside": np.full(2, 2**40)},
            r"integers .* of at most 1073741824 are needed for 2 tasks, 1099511627776 is larger",
        ),
    ],
)
@pytest.mark.parametrize("solve", [auction.solve, soft.solve])
def test_bad_input_is_named(solve, change, message):
    given = {"value": np.ones((2, 2)), "room": np.array([1, 1])} | change
    with pytest.raises(InputError, match=message):
        solve(given.pop("value"), given.pop("room"), **given)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, np.nan, np.inf])
def test_a_step_or_temperature_that_is_not_positive_is_named(epsilon):
    problem = np.ones((2, 2)), np.ones(2, int)
    with pytest.raises(InputError, match=r"epsilon = .*: a finite number above 0 is needed"):
        auction.solve(*problem, epsilon=epsilon)
    with pytest.raises(InputError, match=r"temperature = .*: a finite number above 0 is needed"):
        soft.solve(*problem, temperature=epsilon)
    with pytest.raises(InputError, match="max_rounds = -1: a whole number of at least 0 is needed"):
        auction.solve(*problem, max_rounds=-1)
