"""Seconds and bytes of the compiled experiment, measured in a process of its own.

    JAX_COMPILATION_CACHE_DIR=DIR python -m experiments.benchmarks.compilation POLICY BATCH SLOTS

prints them as JSON. A second run with the same directory measures what the persistent cache leaves.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import jax


def in_subprocess(directory: str, policy: str, batch: int, num_slots: int) -> dict[str, float]:
    """`measure` in a new process whose persistent cache is `directory`."""
    words = [sys.executable, "-m", "experiments.benchmarks.compilation", policy, str(batch), str(num_slots)]
    keep = {"JAX_COMPILATION_CACHE_DIR": directory, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return json.loads(subprocess.run(words, env=os.environ | keep, check=True, stdout=subprocess.PIPE).stdout)


def measure(policy: str, batch: int, num_slots: int) -> dict[str, float]:
    """Time the three programs of the experiment until they could run, and ask the largest for its memory."""
    from experiments.benchmarks import experiment
    from torta_jax import schedulers
    from torta_jax.evaluate import rollout

    experiment.parts(num_slots)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    world = experiment.worlds(batch, num_slots)[0]
    physics, rules = experiment.physics(num_slots), rollout.numbers(schedulers.get(policy))
    run = rollout.begin(world, physics, rules)
    chunk = rollout.chunks(num_slots)[0]
    lowered = rollout.proceed.lower(world, physics, rules, run, chunk)
    traced = time.perf_counter()
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    end = time.perf_counter()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    clusters = world.key.shape[0]
    return {
        "compile_s": end - begin,
        "of_it_tracing_s": traced - begin,
        "compile_cpu_s": time.process_time() - begin_cpu,
        "memory_mb_per_cluster": (memory.temp_size_in_bytes + held) / clusters / 1e6,
        "state_kb_per_cluster": sum(x.nbytes for x in jax.tree.leaves(run)) / clusters / 1e3,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy")
    parser.add_argument("batch", type=int)
    parser.add_argument("num_slots", type=int)
    print(json.dumps(measure(**vars(parser.parse_args()))))
