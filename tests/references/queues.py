"""Queues in closed form: mean waits, losses."""

import math


def erlang_c(servers: int, load: float) -> float:
    """Probability that a customer of M/M/c must wait; `load` is the arrival rate times the mean service."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


def mean_wait_mmc(servers: int, arrival_rate: float, mean_service: float) -> float:
    """M/M/c."""
    load = arrival_rate * mean_service
    return erlang_c(servers, load) * mean_service / (servers - load)


def mean_wait_mg1(arrival_rate: float, mean_service: float, mean_square: float) -> float:
    """M/G/1 after Pollaczek and Khinchine."""
    return arrival_rate * mean_square / (2 * (1 - arrival_rate * mean_service))


def erlang_b(servers: int, load: float) -> float:
    """Share of the customers that M/G/c without a queue refuses."""
    terms = [load**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)
