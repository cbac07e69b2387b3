"""What a policy may know when a slot starts, in plain Python, from what happened in the event simulation before it."""

import math
from collections import Counter

from tests.references.event_simulation import BUFFERED, QUEUED, RUNNING


class Observer:
    """Watches one fleet, slot after slot: `look` before it runs a slot, `learn` after its books are closed."""

    def __init__(self, books, service_guess_s, newest):
        """`newest`: weight of the newest slot in what is measured."""
        self.books, self.fleet, self.newest = books, books.fleet, newest
        self.arrivals = [0] * self.fleet.regions
        self.service_s = [service_guess_s] * self.fleet.regions
        self.kind_share = [[1 / 3] * 3 for _ in range(self.fleet.regions)]

    def learn(self, new):
        """Take in the slot that the fleet has just run; `new` are the tasks that arrived in it."""
        self.arrivals = [sum(task.origin == region for task in new) for region in range(self.fleet.regions)]
        for region in range(self.fleet.regions):
            given = [task for task in self.fleet.given if task.region == region]
            if not given:
                continue
            lane_s = [task.job.loading + task.job.compute for task in given]
            self.service_s[region] = self._mix(self.service_s[region], math.fsum(lane_s) / len(given))
            kinds = Counter(task.kind for task in given)
            self.kind_share[region] = [
                self._mix(share, kinds[kind] / len(given)) for kind, share in enumerate(self.kind_share[region])
            ]

    def _mix(self, old, new):
        return (1 - self.newest) * old + self.newest * new

    def look(self, alive, price_factor):
        """The observation by name when a slot starts in which the regions `alive` [R] work."""
        fleet, regions = self.fleet, range(self.fleet.regions)
        fails = [before and not now for before, now in zip(fleet.alive, alive, strict=True)]
        # The servers of a failing region are off, and whatever they had not finished waits again.
        tasks = [(task.region, BUFFERED if fails[task.region] else task.outcome) for task in fleet.tasks]
        on = [
            [i for i, server in enumerate(servers) if server.on and server.lanes and not fails[region]]
            for region, servers in enumerate(fleet.servers)
        ]

        def count(*outcomes):
            return [sum(where == region and outcome in outcomes for where, outcome in tasks) for region in regions]

        return {
            "slot": round(fleet.now / fleet.slot_s),
            "slot_s": fleet.slot_s,
            "alive": alive,
            "price_usd_per_kwh": [self.books.price(region, fleet.now) * price_factor[region] for region in regions],
            "arrivals": self.arrivals,
            "shares": self.books.routing,
            "buffered": count(BUFFERED),
            "waiting": count(BUFFERED, QUEUED),
            "outstanding": count(BUFFERED, QUEUED, RUNNING),
            "utilisation": [
                math.fsum(self._busy_share(region, i) for i in on[region]) / max(len(on[region]), 1)
                for region in regions
            ],
            "server_utilisation": [
                [self._busy_share(region, i) for i in range(len(servers))]
                for region, servers in enumerate(fleet.servers)
            ],
            "servers_on": [len(some) for some in on],
            "service_s": self.service_s,
            "kind_share": self.kind_share,
        }

    def _busy_share(self, region, index):
        """Of the time that a server's lanes were on in the last slot."""
        busy, on, _, _ = self.fleet.usage(region, index)
        return busy / (on * len(self.fleet.servers[region][index].lanes)) if busy > 0 else 0.0
