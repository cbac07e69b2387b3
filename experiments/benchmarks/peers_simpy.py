"""The queueing model of `lanes` as SimPy processes: one for the arrivals, one per task, a resource per lane."""

from collections.abc import Sequence

import simpy

from experiments.benchmarks.lanes import Fleet, Task, best


def run(servers: Fleet, arrivals: list[Task], model_gb: Sequence[float]) -> list[float]:
    """When each task finishes."""
    environment = simpy.Environment()
    lanes = {id(server): simpy.Resource(environment) for region in servers for server in region}
    finish_s = [0.0] * len(arrivals)

    def serve(number: int, lane: simpy.Resource, lane_s: float):
        with lane.request() as turn:
            yield turn
            yield environment.timeout(lane_s)
            finish_s[number] = environment.now

    def arrive():
        for number, task in enumerate(arrivals):
            yield environment.timeout(task.arrival_s - environment.now)
            server = best(servers[task.region], task, model_gb)
            lane_s = server.lane_s(task)
            server.take(task, model_gb)
            environment.process(serve(number, lanes[id(server)], lane_s))

    environment.process(arrive())
    environment.run()
    return finish_s
