"""Every TOML file gives options or one `InputError`, and what is written back is read the same."""

import json
import math
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torta_jax.cli import config
from torta_jax.cli.options import Compare
from torta_jax.cli.parse import parse
from torta_jax.cli.rules import RULES
from torta_jax.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(st.integers(), st.floats(), st.booleans(), TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
WHEN = {"start_slot": st.integers(0, 9), "num_slots": st.integers(1, 9)}
CHANGE = WHEN | {"factor": st.floats(0, 9)}
WHERE = {"regions": st.lists(st.integers(0, 9) | TEXT, min_size=1, max_size=3)}
GOOD = {
    "topology": st.sampled_from(["abilene", "cost2", "sndlib/germany50"]),
    "policies": st.lists(st.sampled_from(["torta", "skylb", 'my "own"']), min_size=1, unique=True),
    "seeds": st.integers(1, 65_536),
    "slots": st.integers(1, 100_000),
    "load": st.floats(0.001, 100),
    "start_hour": st.floats(0, 24),
    "information": st.sampled_from(["online", "slot"]),
    "prices": st.sampled_from(["auto", "flat", "hourly", "spread"]),
    "latency": st.sampled_from(["geography", "paper"]),
    "fleet_scope": st.sampled_from(["total", "per-region"]),
    "fleet_seed": st.integers(0, 2**31 - 1),
    "room": st.floats(0.1, 20),
    "surge": st.lists(st.fixed_dictionaries(CHANGE, optional=WHERE), min_size=1, max_size=2),
    "failure": st.lists(st.fixed_dictionaries(WHEN, optional=WHERE), min_size=1, max_size=2),
    "price_shock": st.lists(st.fixed_dictionaries(CHANGE, optional=WHERE), min_size=1, max_size=2),
}
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def toml_text(values):
    return "\n".join(f"{_key(key)} = {_inline(value)}" for key, value in values.items())


def _key(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _key(value) if isinstance(value, str) else repr(value)


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return config.checked(config.load(str(path)))


def message_or_options(path, content):
    try:
        return read(path, content)
    except InputError as error:
        return str(error)


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(RULES)) | TEXT, VALUES, max_size=4))
def test_any_keys_and_values_give_options_or_a_message_that_names_the_file(tmp_path, values):
    found = message_or_options(tmp_path / "any.toml", toml_text(values))
    assert isinstance(found, Compare) or "any.toml" in found or found.startswith("--nodes and --links")
    assert not isinstance(found, Compare) or set(values) <= set(RULES)


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes_give_options_or_a_message_that_names_the_file(tmp_path, content):
    found = message_or_options(tmp_path / "any.toml", content)
    assert isinstance(found, Compare) or "any.toml" in found


@QUICK
@given(st.fixed_dictionaries({}, optional=GOOD))
def test_good_values_are_taken_and_the_resolved_file_gives_them_back(tmp_path, values):
    options = read(tmp_path / "good.toml", toml_text(values))
    for key, value in values.items():
        assert getattr(options, key) == frozen(value)
    resolved = config.toml({key: getattr(options, key) for key in RULES})
    again = read(tmp_path / "again.toml", resolved)
    assert all(getattr(again, key) == getattr(options, key) for key in RULES)


def frozen(value):
    """Lists as tuples, at any depth."""
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def test_the_command_line_overrides_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('seeds = 3\nslots = 7\n[[failure]]\nstart_slot = 2\nnum_slots = 3\nregions = ["Denver"]\n')
    options = parse(["compare", "--config", str(path), "--seeds", "5"])
    assert isinstance(options, Compare)
    assert (options.seeds, options.slots) == (5, 7)
    assert options.failure == ({"start_slot": 2, "num_slots": 3, "regions": ("Denver",)},)
    assert options.place("seeds") == "--seeds"
    assert options.place("slots") == f"{path}: slots"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("seed = 3", ["seed", "did you mean 'seeds'"]),
        ("seeds = 0", ["seeds", "from 1 to 65536"]),
        ("seeds = true", ["seeds", "whole number"]),
        ("slots = 1.5", ["slots", "whole number"]),
        ("load = nan", ["load", "from 0.001"]),
        ("load = -1", ["load", "from 0.001"]),
        ('prices = "fla"', ["prices", "did you mean 'flat'"]),
        ('policies = "torta"', ["policies", "list"]),
        ("policies = []", ["policies", "list"]),
        ("fleet_seed = -1", ["fleet_seed", "from 0 to 2147483647"]),
        ("overwrite = true", ["unknown key 'overwrite'"]),
        ('policies = ["torta", "torta"]', ["policies", "without repetition"]),
        ('trace = "t.csv"\nload = 0.5', ["load", "trace"]),
        ('trace = "t.csv"\nstart_hour = 3', ["start_hour", "trace"]),
        ("start_hour = 24.5", ["start_hour", "from 0 to 24"]),
        ('nodes = "n.csv"', ["--links"]),
        ("[[surge]]\nstart_slot = 1\nnum_slots = 2", ["surge 1", "factor is missing"]),
        ("[[surge]]\nstart_slot = -1\nnum_slots = 2\nfactor = 2", ["surge 1: start_slot", "from 0"]),
        ("[[failure]]\nstart_slot = 1\nnum_slots = 2\nregion = 1", ["failure 1", "did you mean 'regions'"]),
        ("[surge]\nfactor = 2", ["surge", "[[surge]]"]),
        ("seeds = = 3", ["not a TOML file", "line 1"]),
        ("a = " + "[" * 5_000, ["not a TOML file"]),
        ("seeds = " + "9" * 6_000, ["any.toml"]),
    ],
)
def test_a_mistake_in_the_file_is_named_with_what_is_allowed(tmp_path, content, told):
    with pytest.raises(InputError) as raised:
        read(tmp_path / "any.toml", content)
    for part in told:
        assert part in str(raised.value)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            config.load(str(path))


def test_an_empty_name_of_a_file_is_an_input_error():
    with pytest.raises(InputError, match="--config = ''"):
        config.load("")


def test_numbers_survive_being_written():
    values = {"load": 0.1 + 0.2, "seeds": 3, "tiny": 1e-300, "name": 'a"\\\n\x7fé'}
    assert tomllib.loads(config.toml(values).decode()) == values
    assert math.isclose(values["load"], 0.3)
