"""TOML files of options and events: read, checked, and written back as resolved."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torta_jax.cli.options import Compare, TrainPaper, TrainTorta
from torta_jax.cli.rules import RULES, TRAINING, check, text
from torta_jax.errors import InputError, require, unknown
from torta_jax.files import read_text


def load(path: str) -> Compare:
    """The options a file gives, each checked by itself, over the defaults.

    Raises:
        InputError: the file cannot be read, is not TOML, has an unknown key or a value out of range.
    """
    text("--config", path)
    written = read_text(path)
    try:
        content = tomllib.loads(written)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error
    for key in content:
        if key not in RULES:
            raise InputError(f"{path}: {unknown('key', key, RULES)}")
    given = {key: check(f"{path}: {key}", key, value) for key, value in content.items()}
    return Compare(**given, config=path, in_file=tuple(given.items()))


def checked(options: Compare) -> Compare:
    """The same options in the form the program uses.

    Raises:
        InputError: a value out of range, or options that exclude each other.
    """
    given = {name: getattr(options, name) for name in RULES if getattr(options, name) is not None}
    values = {name: check(options.place(name), name, value) for name, value in given.items()}
    options = replace(options, **values)
    alone = (options.nodes is None) != (options.links is None)
    require(not alone, "--nodes and --links: a network of your own needs both")
    named = options.topology != Compare.topology and options.nodes is not None
    require(not named, f"{options.place('topology')}: --nodes and --links give a network of your own in its place")
    if options.trace is not None:
        for name in ("load", "start_hour", "surge"):
            required = getattr(options, name) in (None, ())
            require(required, f"{options.place(name)}: only for synthetic arrivals, and a trace is given")
    return options


def checked_training(options: TrainTorta | TrainPaper) -> TrainTorta | TrainPaper:
    """The same options in the form the program uses.

    Raises:
        InputError: a value out of range, or options that exclude each other.
    """
    given = {name: rule for name, rule in TRAINING.items() if hasattr(options, name)}
    values = {name: rule(f"--{name.replace('_', '-')}", getattr(options, name)) for name, rule in given.items()}
    require(not (options.resume and options.overwrite), "--resume and --overwrite: only one of them")
    return replace(options, **values)


def toml(values: Mapping[str, Any]) -> bytes:
    """Options and events as TOML; what is `None` or empty is left out."""
    present = {key: value for key, value in values.items() if value not in (None, ())}
    tables = {key: rows for key, rows in present.items() if _is_tables(rows)}
    lines = [f"{key} = {_value(value)}" for key, value in present.items() if key not in tables]
    for key, rows in tables.items():
        for row in rows:
            lines += ["", f"[[{key}]]", *(f"{name} = {_value(value)}" for name, value in row.items())]
    return ("\n".join(lines) + "\n").encode()


def _is_tables(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(row, Mapping) for row in value)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
