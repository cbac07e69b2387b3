"""`torta compare`: build the world, run every policy, say what came out."""

import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torta_jax.cli import cache
from torta_jax.cli.options import Compare
from torta_jax.cli.rules import INTERRUPTED, MOST_ROOM
from torta_jax.cli.train import holds_training
from torta_jax.errors import require


def run(options: Compare) -> int:
    """Run a comparison: table or JSON on stdout, progress on stderr, files under `--out`.

    Returns:
        Exit status: 0, or that of an interruption if the policies that had finished by then are all there is.

    Raises:
        InputError: an option, a file or the output directory cannot be used; nothing was computed then. Or a part
            could not be written; the table was printed then.
    """
    cache.enable()
    from torta_jax.cli import table, world
    from torta_jax.cli.progress import Steps
    from torta_jax.evaluate import rollout
    from torta_jax.evaluate.compare import document
    from torta_jax.evaluate.store import Store, json_bytes

    store = None
    if options.out is not None:
        free = not holds_training(Path(options.out))
        require(free, f"--out {options.out}: holds a training; choose another directory")
        store = Store(options.out, overwrite=options.overwrite)
    built = world.build(options)
    _announce(built, options.quiet)
    with Steps(len(built.policies), options.quiet) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", rollout.Shortage)  # told below, beside what helps
        try:
            episodes = rollout.evaluate(
                built.cluster,
                built.workload,
                built.scenario,
                built.policies,
                built.options.seeds,
                built.facts["slots"],
                physics=built.physics,
                information=options.information,
                progress=progress,
            )
        except rollout.Interrupted as interrupted:
            episodes = interrupted.episodes
            if not episodes:
                raise
    unfinished = [name for name in built.policies if name not in episodes]
    facts = built.facts | ({"unfinished": unfinished} if unfinished else {})
    result = document(facts, episodes, built.options.reference)
    kept = store is not None and unfinished and store.replaces
    try:
        if store is not None and not kept:
            _write(store, built, episodes, result)
            if not unfinished:
                store.finish()
    finally:  # a full disk does not cost the table
        if options.json:
            sys.stdout.write(json_bytes(result).decode())
        else:
            table.show(result)
        _warn(episodes, built.facts["room"])
    if store is not None and not kept and not options.quiet:
        print(f"torta: wrote {options.out} (figures in {options.out}/figures)", file=sys.stderr)
    if unfinished:
        note = f"; {options.out} keeps its finished result" if kept else ""
        print(f"torta: interrupted before {', '.join(unfinished)} had finished{note}", file=sys.stderr)
    return INTERRUPTED if unfinished else 0


def _announce(built, quiet: bool) -> None:
    """What is about to run, before the first minute of silence that a compilation can be; notes on the world always."""
    policies, seeds, slots = len(built.policies), built.options.seeds, built.options.slots
    size = f"{policies} × {seeds} × {slots} = {policies * seeds * slots:,} cluster-slots"
    progress = () if quiet else (f"policies × seeds × slots = {size}; compiling first",)
    for told in (*(f"note: {note}" for note in built.notes), *progress):
        print(f"torta: {told}", file=sys.stderr, flush=True)


def _write(store, built, episodes: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Every part of the result directory; the summary is last."""
    from torta_jax.cli.config import toml
    from torta_jax.cli.rules import RULES
    from torta_jax.cli.versions import devices, versions
    from torta_jax.evaluate.store import json_bytes, seeds_parquet, slots_parquet
    from torta_jax.plots.report import figures
    from torta_jax.plots.style import render

    resolved = {name: getattr(built.options, name) for name in RULES if name != "out"}
    store.write("resolved.toml", toml(resolved))
    store.write("versions.json", json_bytes(versions() | {"devices": devices()}))
    for name, episode in episodes.items():
        store.write(f"slots/{name}.parquet", slots_parquet(name, episode))
        store.write(f"seeds/{name}.parquet", seeds_parquet(name, episode))
    for name, figure in figures(episodes, built.physics.slot_s).items():
        for kind in ("png", "svg"):
            store.write(f"figures/{name}.{kind}", render(figure, kind))
    store.write("summary.json", json_bytes(result))


def _warn(episodes: Mapping[str, Any], room: float) -> None:
    """What the padding cost, and the option that helps."""
    from torta_jax.evaluate.episode import shortages

    notes = shortages(episodes)
    if notes and room < MOST_ROOM:
        notes.append(f"--room {min(max(math.ceil(2 * room), 2), MOST_ROOM)} makes more room")
    for note in notes:
        print(f"torta: {note}", file=sys.stderr)
