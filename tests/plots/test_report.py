import dataclasses

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.evaluate.fakes import POLICIES, episode, episodes
from torta_jax.plots.report import figures
from torta_jax.plots.style import COLOURS, colours, render

NAMES = ("response_density", "cost_and_overhead", "load_balance", "wait_and_inference", "queue_and_servers")


@pytest.fixture(scope="module")
def drawn():
    return figures(episodes(seeds=2, slots=8), slot_s=45.0)


def test_a_comparison_has_its_five_pictures(drawn):
    assert tuple(drawn) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_png_and_svg(drawn, name):
    assert render(drawn[name], "png").startswith(b"\x89PNG")
    assert b"<svg" in render(drawn[name], "svg")[:1000]


def test_the_same_data_gives_the_same_bytes():
    data = episodes(("skylb", "torta"), seeds=2, slots=4)
    first, second = (figures(data, 45.0) for _ in range(2))
    for name in NAMES:
        assert render(first[name], "svg") == render(second[name], "svg")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(drawn, name):
    canvas = FigureCanvasAgg(drawn[name])
    canvas.draw()
    used = drawn[name].get_tightbbox(canvas.get_renderer())  # inches
    width, height = drawn[name].get_size_inches()
    assert used.x0 >= 0
    assert used.y0 >= 0
    assert used.x1 <= width
    assert used.y1 <= height


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_with_numbers_names_its_unit_or_meaning(drawn, name):
    for axes in drawn[name].axes:
        assert axes.get_xlabel() or not axes.xaxis.get_tick_params()["labelbottom"]


def test_a_distribution_is_made_of_steps_and_reaches_one(drawn):
    for line in drawn["load_balance"].axes[0].lines:
        x, y = line.get_data()
        assert line.get_drawstyle() == "steps-post"
        assert len(x) == 2 * 8 + 1
        assert y[-1] == 1


def test_a_long_episode_is_told_in_hours_and_a_short_one_in_minutes(drawn):
    assert drawn["queue_and_servers"].axes[1].get_xlabel() == "time (min)"
    day = figures(episodes(("torta",), seeds=1, slots=240), slot_s=45.0)["queue_and_servers"].axes[1]
    assert day.get_xlabel() == "time (h)"
    assert day.get_xlim()[1] == pytest.approx(3.0)


def test_a_policy_keeps_its_colour_and_strangers_get_one_each():
    assert colours(POLICIES) == {name: COLOURS[name] for name in POLICIES}
    assert len({*colours(["mine", "torta", "yours", "skylb"]).values()}) == 4
    assert colours(["mine", "torta"])["torta"] == COLOURS["torta"]


def test_one_seed_and_no_completed_task_still_draw():
    empty = episode(seeds=1)
    slots = dataclasses.replace(empty.slots, completed=np.zeros_like(empty.slots.completed))
    empty = dataclasses.replace(empty, slots=slots, histogram=np.zeros_like(empty.histogram))
    for figure in figures({"a-policy-with-a-very-long-name-of-its-own": empty}, 45.0).values():
        assert render(figure, "png")


def test_settings_of_the_caller_are_left_alone(drawn):
    before = dict(matplotlib.rcParams)
    render(figures({"torta": episode(seeds=2)}, 45.0)["load_balance"], "svg")
    assert dict(matplotlib.rcParams) == before
