"""Plans how many processes a number of readers needs: `python -m tests.benchmarks.scale`.

Each reader has its own reply at 50 tokens a second, which is the most expensive case. The plan
divides the load by the measured capacity of one process. A simulation then sends bursts through the
single-threaded parts and gives the lateness of their events, because averages hide it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from dataclasses import asdict, dataclass

RATE = 50  # tokens a second of one reply
BUSY = 0.6  # the share of time that a single-threaded part may work, as bursts need the rest
READERS = (1_000, 100_000, 1_000_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Processor seconds and bytes, measured on the two-core machine of docs/performance.md."""

    worker: float = 91e-6  # a token, read from the model and handed to the log: `publishing`
    append: float = 31e-6  # an event in Redis, 16 in a trip, 3,200 a second
    bridge: float = 133e-6  # an event passed on at 2,000 a second (90 at 4,000)
    pushpin: float = 1 / 20_000  # a delivery: one thread of pushpin-handler
    event: int = 113  # bytes of an event in the log
    connection: int = 40 * 1024  # bytes of a held connection


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The number of processes, each on its own core, their memory, and the lateness in ms."""

    readers: int
    tokens: int
    workers: int
    redis: int
    bridges: int
    pushpins: int
    log_gigabytes_an_hour: float
    connections_gigabytes: float
    p50: float
    p99: float

    @property
    def cores(self) -> int:
        return self.workers + self.redis + self.bridges + self.pushpins


def plan(readers: int, cost: Cost, chance: random.Random) -> Plan:
    """The processes that these readers need, and how late (ms) events are in the three queues."""
    tokens = readers * RATE
    counts = {
        part: math.ceil(tokens * seconds / BUSY)
        for part, seconds in (
            ("redis", cost.append),
            ("bridges", cost.bridge),
            ("pushpins", cost.pushpin),
        )
    }
    queues = [
        (tokens / counts["redis"], cost.append),
        (tokens / counts["bridges"], cost.bridge),
        (tokens / counts["pushpins"], cost.pushpin),
    ]
    late = [sum(parts) for parts in zip(*(waits(*queue, chance) for queue in queues), strict=True)]
    late.sort()
    return Plan(
        readers=readers,
        tokens=tokens,
        workers=math.ceil(tokens * cost.worker / BUSY),
        **counts,
        log_gigabytes_an_hour=round(tokens * 3600 * cost.event / 1e9, 1),
        connections_gigabytes=round(readers * cost.connection / 1e9, 2),
        p50=round(1000 * late[len(late) // 2], 2),
        p99=round(1000 * late[len(late) * 99 // 100], 2),
    )


def waits(rate: float, seconds: float, chance: random.Random, events: int = 50_000) -> list[float]:
    """How many seconds each event waits in a queue that one thread serves in order.

    Each reply has a steady pace, but replies are not in step with each other. Now and then a reply
    sends several tokens in a burst, as models do.
    """
    replies = max(1, round(rate / RATE))
    next_of = [(chance.random() / RATE, number) for number in range(replies)]
    heapq.heapify(next_of)
    free, waited = 0.0, list[float]()
    while len(waited) < events:
        now, number = next_of[0]
        burst = chance.choice((1, 1, 1, 1, 4))
        for _ in range(burst):
            free = max(free, now) + seconds
            waited.append(free - now)
        heapq.heapreplace(next_of, (now + burst / RATE, number))
    chance.shuffle(waited)  # otherwise an event would be first of a burst in every queue
    return waited[:events]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--bridge", type=float, default=Cost().bridge, help="seconds an event")
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    cost = Cost(bridge=asked.bridge)
    for readers in READERS:
        made = plan(readers, cost, random.Random(asked.seed))
        print(json.dumps({**asdict(made), "cores": made.cores}) if asked.json else made)


if __name__ == "__main__":
    main()
