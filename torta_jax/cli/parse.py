"""From the words of a command line to one checked command; every mistake is one message."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from torta_jax.cli import config
from torta_jax.cli.options import (
    Command,
    Compare,
    Doctor,
    SolveAssignment,
    SolveTransport,
    TraceCheck,
    TrainPaper,
    TrainTorta,
)
from torta_jax.cli.rules import RULES, TRAINING, Check
from torta_jax.cli.versions import version_of
from torta_jax.errors import InputError, unknown

Trace = Annotated[TraceCheck, tyro.conf.subcommand("check")] | Annotated[None, tyro.conf.Suppress]
"""What can be done with a trace. tyro makes sub-commands of a union alone, so a single one has a hidden companion."""

Solve = (
    Annotated[SolveTransport, tyro.conf.subcommand("transport")]
    | Annotated[SolveAssignment, tyro.conf.subcommand("assignment")]
)

Training = (
    Annotated[TrainTorta, tyro.conf.subcommand("torta")] | Annotated[TrainPaper, tyro.conf.subcommand("torta-paper")]
)

DESCRIPTION = "Simulate GPU fleets that serve language models from many regions. `torta --version` prints the version."


def parse(words: Sequence[str]) -> Command:
    """The command that was asked for.

    The options of `--config` come first, those of the command line override them.

    Raises:
        InputError: a usage error, or anything wrong in the file.
        SystemExit: help or the version was asked for and has been printed.
    """
    if list(words) == ["--version"]:
        print(f"torta-jax {version_of('torta-jax')}")
        raise SystemExit(0)
    command = _parse(words, Compare())
    if isinstance(command, TrainTorta | TrainPaper):
        return config.checked_training(command)
    if not isinstance(command, Compare):
        return command
    if command.config is not None:
        command = _parse(words, config.load(command.config))
        assert isinstance(command, Compare)
    return config.checked(command)


def _parse(words: Sequence[str], compare: Compare) -> Command:
    command: Any = (
        Annotated[Compare, tyro.conf.subcommand("compare", default=compare)]
        | Annotated[Training, tyro.conf.subcommand("train", description="Learn a policy.")]
        | Annotated[Doctor, tyro.conf.subcommand("doctor")]
        | Annotated[Solve, tyro.conf.subcommand("solve", description="Solve one problem from a CSV file.")]
        | Annotated[Trace, tyro.conf.subcommand("trace", description="Look into a trace of requests.")]
    )
    markers = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(command, prog="torta", args=list(words), config=markers, description=DESCRIPTION)
    except SystemExit as error:
        if not error.code:
            raise
        rules = TRAINING if list(words[:1]) == ["train"] else RULES
        raise InputError(_message(printed.getvalue(), words, rules)) from None


def _message(box: str, words: Sequence[str], rules: Mapping[str, Check]) -> str:
    """One line from the framed text of a usage error, with the allowed range of the option it is about."""
    blocks: list[list[str]] = [[]]
    for line in box.splitlines():
        content = line[2:].rstrip("│ ")  # the frame is two columns wide, in Unicode and in ASCII
        if content and not content.strip("─-"):
            blocks.append([])
        elif content and not line.startswith(("╭", "╰")):
            blocks[-1].append(content)
    if "╭" not in box:
        del blocks[0]  # the title, which Unicode has in the frame
    told = [_sentence(block, box, words) for block in blocks if block and not block[0].startswith(_LEFT_OUT)]
    return (
        _with_range(_with_command("; ".join(filter(None, told)).rstrip(".")), rules)
        + f" (see {_command(words)} --help)"
    )


def _command(words: Sequence[str]) -> str:
    """The command that some words begin with, as far as there is one."""
    first = [word for word in words[:1] if word in SUBCOMMANDS]
    return " ".join(["torta", *first, *(word for word in words[1:2] if first and word in SUBCOMMANDS[first[0]])])


SUBCOMMANDS = {
    "compare": (),
    "train": ("torta", "torta-paper"),
    "doctor": (),
    "solve": ("transport", "assignment"),
    "trace": ("check",),
}
"""Commands and what may follow them."""

_LEFT_OUT = ("For full helptext", "Argument helptext")
_INDENT = re.compile(r" {4}(\S+)")


def _sentence(block: list[str], box: str, words: Sequence[str]) -> str:
    """A block of the frame; of listed arguments the names without their help."""
    if block[0].startswith("Missing from"):
        return f"{block[0]} {', '.join(_listed(block))}"
    if block[0].startswith("Perhaps you meant"):
        of = _listed(block)
        elsewhere = [name for name in of if f" {name} (applied to" in box]  # the very word that was refused
        asked = " ".join(["torta", *words, ""])
        mine = [name for name in of if any(asked.startswith(f"{command.strip('`')} ") for command in of[name])]
        near = [name for name in mine if name not in elsewhere]
        told = [f"{name} is an option of {' and of '.join(of[name])}" for name in elsewhere]
        return "; ".join(told + ([f"did you mean {' or '.join(near)}?"] if near else []))
    if block[0].startswith("Unrecognized or misplaced"):
        return f"Unrecognized options: {', '.join(line.split()[0] for line in block if '(applied to' in line)}"
    return " ".join(line.strip() for line in block)


def _listed(block: list[str]) -> dict[str, list[str]]:
    """Arguments that a block lists, and the commands that have them."""
    found: dict[str, list[str]] = {}
    for line in block:
        if argument := _INDENT.match(line):
            found[argument[1]] = []
        elif command := re.match(r" +in (torta.*) --help", line):
            list(found.values())[-1].append(f"`{command[1]}`")
    return found


def _with_command(message: str) -> str:
    """Say which sub-command may be meant where one is not known."""
    found = re.match(r"Unrecognized options: ([^,;]+).*; Available subcommands: ([^;]+)", message)
    return str(unknown("command", found[1], found[2].split(", "))) if found else message


def _with_range(message: str, rules: Mapping[str, Check]) -> str:
    """Say what an option allows where only its value was refused."""
    found = re.search(r"""Error parsing --([a-z-]+): .*?(['"])(.*?)\2""", message)
    option = found[1].replace("-", "_") if found else ""
    if found and option in rules:
        try:
            rules[option](f"--{found[1]}", found[3])
        except InputError as error:
            return str(error)
    return message
