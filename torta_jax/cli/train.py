"""`torta train`: learn a policy, with progress, checkpoints and curves."""

import io
import json
import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torta_jax.cli import cache, memory
from torta_jax.cli.options import Train, TrainPaper
from torta_jax.cli.rules import INTERRUPTED
from torta_jax.errors import InputError, about, require
from torta_jax.files import put, writable

CONFIG, LOG, CURVES, CHECKPOINTS = "config.json", "log.parquet", "curves.png", "checkpoints"
FREE = ("out", "resume", "overwrite", "quiet")
"""Options that may change where training is resumed; the others make the training what it is."""


def run(options: Train) -> int:
    """Train, or go on; everything is in `--out`, the policy is its `policy.npz`.

    Raises:
        InputError: an option or the directory cannot be used, a checkpoint is damaged or of another training, or a
            number became not finite; what was learned before that is kept.
    """
    cache.enable()
    import jax

    from torta_jax.cli.progress import Updates
    from torta_jax.evaluate.store import MANIFEST
    from torta_jax.learn import checkpoint, train
    from torta_jax.schedulers.trained import POLICY

    directory = Path(options.out)
    other = (directory / MANIFEST).exists()
    require(not other, f"--out {directory}: holds a comparison; choose another directory")
    free = options.resume or options.overwrite or not holds_training(directory)
    require(free, f"--out {directory}: holds a training; --resume goes on, --overwrite begins anew")
    asked = json.loads(json.dumps({name: value for name, value in asdict(options).items() if name not in FREE}))
    if options.resume:
        policy = "torta-paper" if isinstance(options, TrainPaper) else "torta"
        step, _ = checkpoint.check(directory / CHECKPOINTS, {"policy": policy} | asked)
        if step == options.updates and _readable(directory / POLICY):
            print(f"torta: {directory}: all {step} updates are done, nothing is left to do", file=sys.stderr)
            return 0
    writable("--out", directory, directory=True)
    recipe = _recipe(options)
    memory.check_training(recipe.learner)
    facts = recipe.facts | asked
    state, log = jax.jit(recipe.learner.init)(jax.random.key(options.seed)), []
    if options.resume:
        _, state = checkpoint.restore(directory / CHECKPOINTS, state, facts)
        log = _read_log(directory / LOG)[: int(state.updates)]
    begun = options.resume

    def write(trained: Any) -> None:
        nonlocal begun
        if not begun:
            shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)  # a training that this one replaces
            begun = True
        told = facts | {"updates_done": int(trained.state.updates)}
        put(directory / CONFIG, (json.dumps(facts, indent=2) + "\n").encode())
        _write(directory, trained.log, recipe.learned(trained.state), told)

    keep = train.keep_in(directory / CHECKPOINTS, facts, write)
    try:
        with Updates(options.quiet) as progress:
            train.train(recipe.update, recipe.numbers, state, options.updates, log=log, keep=keep, tell=progress)
    except train.NotFinite as error:
        raise InputError(f"{directory}: {error}") from error
    except OSError as error:
        raise InputError(f"--out {directory}: cannot write there ({error.strerror})") from error
    except KeyboardInterrupt:
        left = f"{directory} holds what was learned (--resume goes on)" if begun else "before the first update"
        print(f"torta: interrupted; {left}", file=sys.stderr)
        return INTERRUPTED
    if not options.quiet:
        print(f"torta: wrote {directory} (torta compare --policy-file {directory / POLICY})", file=sys.stderr)
    return 0


def holds_training(directory: Path) -> bool:
    """Whether a training, or a policy of one, is kept there."""
    from torta_jax.schedulers.trained import POLICY

    return any((directory / name).exists() for name in (CHECKPOINTS, POLICY))


def _recipe(options: Train) -> Any:
    """What the options ask for; all they do not share is the recipe's."""
    from torta_jax import cluster as clusters
    from torta_jax.learn import constraints, recipes
    from torta_jax.schedulers import heads

    given = {field.name: getattr(options, field.name) for field in fields(options)}
    own = {name: value for name, value in given.items() if name not in FREE}
    if isinstance(options, TrainPaper):
        del own["updates"]
        for option, known in (("head", heads.get), ("topology", clusters.load), ("rule", constraints.known)):
            with about(f"--{option}"):
                known(own[option])
        if not options.quiet:
            print("torta: training the predictor first, on episodes recorded now", file=sys.stderr, flush=True)
        return recipes.torta_paper(**own)
    del own["seed"]
    with about("--kinds"):
        recipes.known(own["kinds"])
    return recipes.torta(**own)


def _write(directory: Path, rows: list[dict[str, float]], learned: Any, facts: dict[str, Any]) -> None:
    import jax
    import pyarrow as pa
    import pyarrow.parquet as pq

    from torta_jax.learn.constraints import Targets
    from torta_jax.plots.curves import learning_curves
    from torta_jax.plots.style import render
    from torta_jax.schedulers.policy_file import pack
    from torta_jax.schedulers.trained import POLICY

    if rows:  # none where the log of a finished training was lost
        aims = {"improvement": Targets().improvement, "farthest": Targets().deviation}
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), table, compression="zstd")
        put(directory / LOG, table.getvalue())
        put(directory / CURVES, render(learning_curves(rows, aims), "png"))
    put(directory / POLICY, pack(jax.device_get(learned), facts))


def _read_log(path: Path) -> list[dict[str, float]]:
    """Rows of the updates that are done; a log that is lost or damaged costs the curves only."""
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except Exception:  # whatever pyarrow makes of any bytes
        print(f"torta: {path}: lost or damaged; log and curves begin where training goes on", file=sys.stderr)
        return []


def _readable(policy: Path) -> bool:
    from torta_jax.schedulers.policy_file import unpack

    try:
        unpack(policy)
    except InputError:
        return False
    return True
