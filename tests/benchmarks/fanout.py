"""How many events one web process delivers, how late, and what a follower costs that waits.

Three loads: many followers of one channel at a high rate; many followers of many channels; many
followers to whom nothing is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import chain

from tests.benchmarks.cost import Cost
from tests.benchmarks.nchan import with_nchan
from tests.benchmarks.peer_servers import BARE, DATABASE_STORAGE, OURS, REDIS_STORAGE, peer_server
from tests.benchmarks.readers import connected, heard
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds

PATIENCE = 90  # seconds from the first event until what has not arrived counts as lost


async def load(
    name: str, wishes: Wishes, *, followers: int, channels: int, events: int, rate: float
) -> Row:
    """So many events on each channel, `rate` a second in all channels together."""
    async with peer_server(name, wishes.place, channels=channels) as ring:
        readers = ring.readers(followers, timed=followers // 5)
        await connected(readers, within=120)
        server, client = Cost(ring.web.pid).begin(), Cost().begin()
        saying = asyncio.create_task(ring.say(events * channels, rate=rate))
        patience = wishes.size(PATIENCE, 5)
        last = await heard(readers, events, within=patience)
        spent, share, writes = server.seconds, client.share, server.writes
        begun = await saying
        due, got = followers * events, sum(r.count - r.repeated for r in readers)
        took = (last - begun) if last else float(patience)
        return {
            "load": f"{followers} of {channels}, {rate:g}/s",
            "view": name,
            "due": due,
            "lost": due - got,
            "repeated": sum(reader.repeated for reader in readers),
            "seconds": round(took, 2),
            "writes": writes,
            "CPU µs a write": round(1e6 * spent / max(1, writes), 1),
            "events/s": round(got / took),
            "events/s at a full core": round(got / max(0.01, spent)),
            **milliseconds(list(chain.from_iterable(reader.late for reader in readers))),
            "client % of a core": round(share, 1),
        }


async def waiting(name: str, wishes: Wishes, *, followers: int) -> Row:
    """The cost of followers without any events."""
    async with peer_server(name, wishes.place, channels=1) as ring:
        some = ring.readers(20)
        await connected(some, within=30)  # whatever is made once, is made now
        server = Cost(ring.web.pid)
        memory, threads = server.memory, server.threads
        await connected(ring.readers(followers), within=300, at_once=50)
        await asyncio.sleep(wishes.size(2, 0))  # what opening them cost is spent
        memory, threads = server.memory - memory, server.threads - threads
        server.begin()
        await asyncio.sleep(wishes.size(15, 1))
        return {
            "load": f"{followers} waiting",
            "view": name,
            "KB a follower": round(memory / followers / 1024, 1),
            "more threads": threads,
            "server % of a core": round(server.share, 1),
        }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    crowd = wishes.size(500, 20)
    for name in with_nchan(OURS):
        events = wishes.size(150, 10)
        yield await load(name, wishes, followers=crowd, channels=1, events=events, rate=50)
    for name in with_nchan(OURS, BARE, REDIS_STORAGE, DATABASE_STORAGE):
        events = 10 if name == DATABASE_STORAGE else wishes.size(200, 20)
        yield await load(name, wishes, followers=crowd, channels=1, events=events, rate=100)
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):  # as fast as possible: where is the limit?
        yield await load(name, wishes, followers=crowd, channels=1, events=400, rate=0)
    events, rate = wishes.size(10, 4), wishes.size(1000, 40)
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):
        yield await load(
            name, wishes, followers=2 * crowd, channels=crowd, events=events, rate=rate
        )
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):
        yield await waiting(name, wishes, followers=wishes.size(2000, 40))


if __name__ == "__main__":
    benchmark("fanout", measure)
