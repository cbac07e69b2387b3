"""Everything worth knowing about a machine in one call: what it computes, and how fast. One JSON document on stdout.

Checks: tasks are conserved, and the same comparison on this host's CPU gives nearly the same means. Then the whole of
`experiments.benchmarks.throughput`, which goes to thousands of clusters where there is a GPU.

    python -m experiments.benchmarks.device [--quick] > device.json
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import tyro

from experiments import answer
from experiments.benchmarks import learning, throughput

MEANS = ("power_cost_usd", "energy_kwh", "load_balance", "overhead_s_per_task", "switching_cost")
TIMES = ("response_s", "wait_s", "inference_s", "network_s")
HELD = ("completed", "running", "queued", "buffered", "dropped")


@dataclass(frozen=True)
class Options:
    """Size of the checks and of the benchmark."""

    quick: bool = False  # fewer slots, batches and repeats
    seeds: int = 16


def compare(options: Options, **env: str) -> dict[str, Any]:
    """Every policy, as `torta compare` tells it, in a process of its own with these environment variables."""
    slots = "60" if options.quick else "480"
    words = [sys.executable, "-m", "torta_jax.cli.main", "compare", "-q", "--json"]
    words += ["--seeds", str(options.seeds), "--slots", slots]
    run = subprocess.run(words, env=os.environ | env, check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout)["policies"]


def check(own: dict[str, Any], cpu: dict[str, Any]) -> dict[str, Any]:
    """One policy's books, and its relative differences against the CPU."""
    means = {name: (own[name], cpu[name]) for name in MEANS}
    means |= {name: (own[name]["mean"], cpu[name]["mean"]) for name in TIMES}
    return {
        "conserved": own["arrived"] == sum(own[name] for name in HELD),
        "same_arrivals": own["arrived"] == cpu["arrived"],
        "relative_difference": {name: a / b - 1 for name, (a, b) in means.items()},
    }


def main() -> None:
    options, tell = tyro.cli(Options, description=__doc__), partial(print, file=sys.stderr, flush=True)
    tell("every policy on the device, then on the CPU")  # first: this process must not hold the device's memory yet
    own, cpu = compare(options), compare(options, JAX_PLATFORMS="cpu")
    document: dict[str, Any] = {"checks": {name: check(own[name], cpu[name]) for name in own}}
    with tempfile.TemporaryDirectory() as cache:
        document["speed"] = throughput.benchmark(throughput.Options(quick=options.quick), cache, tell)
    document["learning"] = learning.benchmark(learning.Options(), tell)
    document["peak_bytes"] = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    answer(main)
