"""The books of a slot: every number of its metrics, in plain Python, from what happened in the event simulation."""

import math
from collections import Counter

from tests.references.event_simulation import BUFFERED, COMPLETED, DEADLINE, FAILURE, OVERFLOW, QUEUED, RUNNING


def times(task, latency_s):
    """Seconds of a completed task's life: on the way, on a lane, and in between; the answer travels back."""
    spent = {"network": 0.0, "inference": 0.0, "wait": 0.0}
    clock = task.arrival
    for what, begin, end in task.diary:
        assert begin > clock - 1e-9, "at two places at once"
        spent["wait"] += begin - clock
        spent[what] += end - begin
        clock = end
    back = latency_s[task.region][task.origin]
    spent["network"] += back
    return {**spent, "response": clock + back - task.arrival}


def load_balance(shares):
    """Eq 11, 1 / (1 + CV); 1 where nothing runs or there is nothing to balance."""
    mean = math.fsum(shares) / max(len(shares), 1)
    if mean == 0:
        return 1.0
    deviation = math.sqrt(math.fsum((share - mean) ** 2 for share in shares) / len(shares))
    return 1 / (1 + deviation / mean)


class Books:
    """Keeps the books of one fleet, slot after slot."""

    def __init__(self, fleet, start_hour_utc):
        self.fleet, self.start_hour_utc = fleet, start_hour_utc
        regions = range(fleet.regions)
        self.routing = [[float(i == j) for j in regions] for i in regions]  # shares; at first everybody stays at home

    def close(self, held, new, unseen, price_factor):
        """The numbers of the slot that the fleet has just run.

        Args:
            held: the tasks held in it, with their outcome.
            new: those of them that arrived in it.
            unseen: number of tasks that found no row in the padding.
            price_factor: [R] of the scenario.

        Returns:
            The numbers by name, and the `times` of every completed task.
        """
        number = Counter(task.outcome for task in held)
        done = [task for task in held if task.outcome == COMPLETED]
        spent = [times(task, self.fleet.hardware["latency_s"]) for task in done]
        book = {
            "arrived": len(new) + unseen,
            "completed": number[COMPLETED],
            "late": sum(task.job.finish > task.deadline for task in done),
            "dropped": [number[DEADLINE], number[OVERFLOW] + unseen, number[FAILURE]],
            "running": number[RUNNING],
            "queued": number[QUEUED],
            "buffered": number[BUFFERED],
            "unmatched": self.fleet.unmatched,
            **{f"{what}_s": math.fsum(one[what] for one in spent) for what in ("response", "wait", "inference")},
            "network_s": math.fsum(one["network"] for one in spent),
            "switching_cost": self._switching(new),
        }
        return book | self._overhead() | self._servers(price_factor), spent

    def _switching(self, new):
        """Squared change of the realised routing; an origin that sends nothing keeps its last row."""
        regions, change = range(self.fleet.regions), 0.0
        for origin in regions:
            sent = Counter(task.region for task in new if task.origin == origin)
            if sent:
                row = [sent[region] / sent.total() for region in regions]
                change += math.fsum((a - b) ** 2 for a, b in zip(row, self.routing[origin], strict=True))
                self.routing[origin] = row
        return change

    def _overhead(self):
        """What loads, migrations and server starts cost: booked in full in the slot that decides on them."""

        def seconds(*names):
            return math.fsum(s for name, s in self.fleet.efforts if name in names)

        count = Counter(name for name, _ in self.fleet.efforts)
        return {
            "model_loads": count["load a model"],
            "model_load_s": seconds("load a model"),
            "migrations": count["resume elsewhere"],
            "migration_s": seconds("serialise", "resume elsewhere"),
            "server_starts": count["start a server"],
            "warmup_s": seconds("start a server"),
        }

    def _servers(self, price_factor):
        """Utilisation of the servers that were on for some of the slot, energy, and its price."""
        shares, kwh, usd = [], [], []
        for region, servers in enumerate(self.fleet.servers):
            price = self.price(region, self.fleet.now - self.fleet.slot_s) * price_factor[region]
            for index, server in enumerate(servers):
                busy, on, _, energy = self.fleet.usage(region, index)
                kwh.append(energy)
                usd.append(energy * price)
                if on > 0:
                    shares.append(busy / (on * len(server.lanes)))
        return {
            "load_balance": load_balance(shares),
            "utilisation": math.fsum(shares) / max(len(shares), 1),
            "active_servers": len(shares),
            "energy_kwh": math.fsum(kwh),
            "power_cost_usd": math.fsum(usd),
        }

    def price(self, region, clock):
        """USD/kWh by the hour of the day (UTC) at a time."""
        hour = math.floor(self.start_hour_utc + clock / 3600) % 24
        return self.fleet.hardware["price_usd_per_kwh"][region][hour]
