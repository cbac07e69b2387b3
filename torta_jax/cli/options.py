"""The sub-commands and their options. Nothing here imports JAX: help must be instant."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from torta_jax.calibration import CALIBRATED
from torta_jax.cli.rules import NUMBERS, TRAINING_NUMBERS, Within

_LOAD, _HOUR = f"{CALIBRATED.load:g}", f"{CALIBRATED.start_hour_utc:g}"
Hidden = Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress]


def _arg(metavar: str, help: str, default: str | None = None, allowed: Within | None = None) -> Any:
    help = help if allowed is None else f"{help}; {allowed}"
    if default is None:
        return tyro.conf.arg(metavar=metavar, help=help)
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class Compare:
    """Compare scheduling policies in the same worlds, seed by seed, and print a table."""

    topology: Annotated[str, _arg("NAME", "abilene, polska, gabriel, cost2, or a key of topohub")] = "abilene"
    nodes: Annotated[str | None, _arg("CSV", "regions of a network of your own, in place of --topology", "none")] = None
    links: Annotated[str | None, _arg("CSV", "links of a network of your own", "none")] = None
    policies: Annotated[
        tuple[str, ...] | None,
        _arg("NAME", "policies to run, separated by spaces or commas", "all but torta-paper-TOPOLOGY"),
    ] = None
    policy_file: Annotated[str | None, _arg("FILE", "also a policy of `torta train`, as `torta-trained`", "none")] = (
        None
    )
    reference: Annotated[
        str | None, _arg("NAME", "the policy that the others are compared with", "skylb, if it is one of them")
    ] = None
    seeds: Annotated[int, _arg("N", "worlds that every policy meets", allowed=NUMBERS["seeds"])] = 16
    slots: Annotated[
        int | None,
        _arg("N", "slots of 45 s", "480, or as long as the trace lasts if that is less", allowed=NUMBERS["slots"]),
    ] = None
    trace: Annotated[str | None, _arg("FILE", "replay this trace in place of synthetic arrivals", "none")] = None
    load: Annotated[
        float | None,
        _arg(
            "SHARE",
            "busiest hour's work over what the fleet does on tasks that suit its GPUs, synthetic arrivals only",
            _LOAD,
            allowed=NUMBERS["load"],
        ),
    ] = None
    start_hour: Annotated[
        float | None,
        _arg(
            "HOUR",
            "UTC hour at which the first slot begins, synthetic arrivals only",
            _HOUR,
            allowed=NUMBERS["start_hour"],
        ),
    ] = None
    information: Annotated[
        str, _arg("online|slot", "tasks are known as they arrive, or at the start of their slot")
    ] = "online"
    prices: Annotated[
        str,
        _arg(
            "auto|flat|hourly|spread",
            "auto: flat, or spread where a price is missing or all are equal; flat: each region's own all day; hourly: "
            "in the shape of its market's day; spread: drawn by --fleet-seed",
        ),
    ] = "auto"
    latency: Annotated[str, _arg("geography|paper", "network delays from distances, or Table I's constants")] = (
        "geography"
    )
    fleet_scope: Annotated[
        str, _arg("total|per-region", "whether Table I counts the network's GPUs or each region's")
    ] = "total"
    fleet_seed: Annotated[
        int, _arg("N", "draws where the GPUs stand, and the prices of --prices spread", allowed=NUMBERS["fleet_seed"])
    ] = 0
    room: Annotated[
        float | None,
        _arg(
            "SLOTS",
            "room for tasks that wait, in slots of arrivals; little room delays or drops them",
            "1.75, with events 4",
            allowed=NUMBERS["room"],
        ),
    ] = None
    config: Annotated[
        str | None, _arg("TOML", "read options and events from this file; options given here win", "none")
    ] = None
    out: Annotated[str | None, _arg("DIR", "write data, configuration, versions and figures here", "nothing")] = None
    overwrite: Annotated[bool, tyro.conf.arg(help="let --out replace a finished result", help_behavior_hint="")] = False
    json: Annotated[
        bool, tyro.conf.arg(help="print one JSON document in place of the table", help_behavior_hint="")
    ] = False
    quiet: Annotated[bool, tyro.conf.arg(help="no progress on stderr", help_behavior_hint="", aliases=["-q"])] = False
    surge: Hidden = ()
    failure: Hidden = ()
    price_shock: Hidden = ()
    in_file: Hidden = ()  # (name, value) of the options that the file gave

    def place(self, option: str) -> str:
        """Where the value of an option came from, as an error names it."""
        in_file = dict(self.in_file)
        if option in in_file and in_file[option] == getattr(self, option):
            return f"{self.config}: {option}"
        return f"--{option.replace('_', '-')}"


@dataclass(frozen=True)
class Train:
    """What every training is told."""

    out: Annotated[str, _arg("DIR", "where the policy, curves, log and checkpoint go")]
    updates: Annotated[int, _arg("N", "steps of training in all", "600", allowed=TRAINING_NUMBERS["updates"])] = 600
    seed: Annotated[int, _arg("N", "of all luck", "0", allowed=TRAINING_NUMBERS["seed"])] = 0
    resume: Annotated[bool, tyro.conf.arg(help="go on from the checkpoint in --out", help_behavior_hint="")] = False
    overwrite: Annotated[
        bool, tyro.conf.arg(help="start anew in a directory that holds a training", help_behavior_hint="")
    ] = False
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"], help="no progress", help_behavior_hint="")] = False


@dataclass(frozen=True)
class TrainTorta(Train):
    """Train the network of `torta` on random clusters, by the slope of what users pay for through the fluid model.

    --out holds the policy (`torta compare --policy-file`), curves, the log of every update and a checkpoint. The same
    options give the same bytes, also after an interruption and --resume (the checkpoint's own files differ).
    """

    updates: Annotated[int, _arg("N", "steps of training in all", "400", allowed=TRAINING_NUMBERS["updates"])] = 400
    worlds: Annotated[
        int, _arg("N", "random clusters per update, new ones in each", "32", allowed=TRAINING_NUMBERS["worlds"])
    ] = 32
    slots: Annotated[int, _arg("N", "slots of 45 s in each of them", "60", allowed=TRAINING_NUMBERS["slots"])] = 60
    regions: Annotated[
        int, _arg("N", "of every cluster; the policy then serves any number", "12", allowed=TRAINING_NUMBERS["regions"])
    ] = 12
    servers: Annotated[int, _arg("N", "per region at most", "24", allowed=TRAINING_NUMBERS["servers"])] = 24
    kinds: Annotated[
        tuple[str, ...], _arg("KIND", "kinds of worlds, in turn: calm, hard, light", "calm hard light")
    ] = ("calm", "hard", "light")
    learning_rate: Annotated[
        float,
        _arg(
            "RATE",
            "of Adam: it rises to this over 20 updates, and falls as a cosine over all of them",
            "0.001",
            allowed=TRAINING_NUMBERS["learning_rate"],
        ),
    ] = 0.001
    warmup_weight: Annotated[
        float,
        _arg(
            "WEIGHT",
            "of the seconds that servers take to start, in training: more of it, fewer starts; Eq 1, by which policies "
            "are judged, has 0.3",
            "0.3",
            allowed=TRAINING_NUMBERS["warmup_weight"],
        ),
    ] = 0.3
    blind: Annotated[
        bool,
        tyro.conf.arg(help="show the network nothing: it can but tune numbers, a yardstick", help_behavior_hint=""),
    ] = False


@dataclass(frozen=True)
class TrainPaper(Train):
    """Train the paper's actor-critic on one topology: PPO on Eq 3 with Eq 5, in the fluid model.

    --out holds the policy (`torta compare --policy-file`), curves, the log of every update and a checkpoint. The same
    options give the same bytes, also after an interruption and --resume (the checkpoint's own files differ).
    """

    topology: Annotated[str, _arg("NAME", "abilene, polska, gabriel, cost2, or a key of topohub")] = "abilene"
    head: Annotated[
        str,
        _arg(
            "NAME",
            "how a matrix is drawn: beta (the paper's), dirichlet, logistic-normal, ot-residual, gate",
            "gate, the best by Eq 3",
        ),
    ] = "gate"
    rule: Annotated[
        str,
        _arg("NAME", "for the multipliers of Eq 5: exponential, stepwise (both the paper's), pid", "exponential"),
    ] = "exponential"
    envs: Annotated[
        int, _arg("N", "environments side by side; 4 must divide N x steps", "64", allowed=TRAINING_NUMBERS["envs"])
    ] = 64
    steps: Annotated[
        int,
        _arg(
            "N", "slots of 45 s of each per update; two updates are an episode", "30", allowed=TRAINING_NUMBERS["steps"]
        ),
    ] = 30
    learning_rate: Annotated[
        float, _arg("RATE", "of Adam; x 0.995 every 100 episodes", "0.0003", allowed=TRAINING_NUMBERS["learning_rate"])
    ] = 0.0003


@dataclass(frozen=True)
class Doctor:
    """Say which device, versions and compilation cache are in use."""


@dataclass(frozen=True)
class TraceCheck:
    """Validate a trace and say what it holds."""

    file: tyro.conf.Positional[
        Annotated[str, tyro.conf.arg(metavar="FILE", help="CSV, JSONL or Parquet; Azure's LLM format, or our own")]
    ]


_OUT = tyro.conf.arg(metavar="FILE", help="write the solution here", help_behavior_hint="(default: standard output)")
_OVERWRITE = tyro.conf.arg(help="let --out replace a file", help_behavior_hint="")
_JSON = tyro.conf.arg(help="JSON in place of CSV", help_behavior_hint="")


@dataclass(frozen=True)
class SolveTransport:
    """Send demand to capacity at the least cost, with prices of capacity and a lower bound.

    FILE is CSV. Its first line names the columns, its first column the rows: a column for each destination and a last
    one `demand`, a row for each origin and a last one `capacity`. The cells are costs, an empty one is a pair that is
    not allowed:

        ,denver,atlanta,demand
        denver,0,1.2,30
        atlanta,1.2,,20
        capacity,40,40,

    Demand that finds no capacity is `buffered`, at a charge of ten mean costs above the dearest pair, which value and
    lower bound count. The exit status is 1 where there is any, and where the solver has not converged.
    """

    file: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE", help="CSV as above")]]
    balanced: Annotated[
        bool, tyro.conf.arg(help="capacities are shares of all demand, whatever they add up to", help_behavior_hint="")
    ] = False
    epsilon: Annotated[
        float, _arg("SHARE", "entropy as a share of the mean cost, above 0 up to 10; less is sharper", "0.01")
    ] = 0.01
    out: Annotated[str | None, _OUT] = None
    overwrite: Annotated[bool, _OVERWRITE] = False
    json: Annotated[bool, _JSON] = False


@dataclass(frozen=True)
class SolveAssignment:
    """Match tasks to servers for the highest value, with an upper bound and, in JSON, the prices of places.

    FILE is CSV. Its first line names the columns, its first column the rows: a column for each server and perhaps a
    last one `outside`, a row for each task and a last one `room`. The cells are values, an empty one is a pair that is
    not allowed:

        ,big,small,outside
        ada,5,3,0
        bob,6,,1
        room,1,2,

    A task that is worth more outside (0 without that column) gets no server. Whole numbers are solved exactly. The exit
    status is 1 where the solver has not converged.
    """

    file: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE", help="CSV as above")]]
    floats: Annotated[
        bool, tyro.conf.arg(help="solve whole numbers as if they were not, nearly", help_behavior_hint="")
    ] = False
    out: Annotated[str | None, _OUT] = None
    overwrite: Annotated[bool, _OVERWRITE] = False
    json: Annotated[bool, _JSON] = False


Command = Compare | TrainTorta | TrainPaper | Doctor | TraceCheck | SolveTransport | SolveAssignment
