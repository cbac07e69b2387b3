"""The queueing model of `lanes` in ciw, as far as ciw goes: a node per region, its servers behind one FIFO queue.

Left out, because a ciw node has equal servers and one queue: GPU types (a task takes the region's mean lane time), the
choice of a lane by earliest finish, resident models and their switches. Arrivals and the amount of work are the same.
"""

from collections.abc import Sequence

import ciw
import numpy as np
from ciw.dists import Sequential

from experiments.benchmarks.lanes import Fleet, Task


def run(servers: Fleet, arrivals: list[Task], model_gb: Sequence[float]) -> list[float]:
    """When each task finishes, region by region in order of arrival; `model_gb` is not used."""
    by_region = [[task for task in arrivals if task.region == region] for region in range(len(servers))]
    network = ciw.create_network(
        arrival_distributions=[_gaps(tasks) for tasks in by_region],
        service_distributions=[_work(row, tasks) for row, tasks in zip(servers, by_region, strict=True)],
        number_of_servers=[len(row) for row in servers],
        routing=[[0.0] * len(servers) for _ in servers],
    )
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_customers(len(arrivals), method="Finish")
    records = sorted(simulation.get_all_records(), key=lambda record: (record.node, record.arrival_date))
    return [record.exit_date for record in records]


def _gaps(tasks: list[Task]) -> Sequential:
    gaps = np.diff([task.arrival_s for task in tasks], prepend=0.0)
    return Sequential([*gaps.tolist(), float("inf")])


def _work(row, tasks: list[Task]) -> Sequential:
    prefill, decode = (np.mean([1 / getattr(s, f"{name}_speed") for s in row]) for name in ("prefill", "decode"))
    match = np.mean([1 / np.asarray(server.match) for server in row], axis=0)
    work = [float((t.prefill_s * prefill + t.decode_s * decode) * match[t.kind]) for t in tasks]
    return Sequential(work or [0.0])
