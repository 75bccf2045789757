"""How many events one web process delivers, how late they are, and what a waiting follower costs.

The loads: many followers of one channel, at several rates and in several numbers; as many events as
can be published; many followers of many channels; many followers of a channel without events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import chain

from tests.benchmarks.cost import Cost
from tests.benchmarks.nchan import with_nchan
from tests.benchmarks.peer_servers import (
    BARE,
    DATABASE_STORAGE,
    OURS,
    REDIS_STORAGE,
    PeerServer,
    peer_server,
)
from tests.benchmarks.readers import Reader, connected, heard
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds

PATIENCE = 90  # seconds from the first event until a missing event counts as lost
SWEEP_PATIENCE = 8  # the same for one point of a plot
BEHIND = 1000  # ms at the p50; a view that is later gets no further points
RATE = 50  # events a second of the channel, in loads that change only the number of readers


async def delivery(
    ring: PeerServer, readers: list[Reader], *, events: int, rate: float, patience: float
) -> Row:
    """Publish `events` on each channel, `rate` a second in all, and measure the readers.

    The readers must be connected. Earlier events do not count, so that one load can follow another
    on the same connections.
    """
    for reader in readers:
        reader.count, reader.repeated = 0, 0
        del reader.late[:]
    server, client = Cost(ring.web.pid).begin(), Cost().begin()
    saying = asyncio.create_task(ring.say(events * len(ring.places), rate=rate))
    last = await heard(readers, events, within=patience)
    spent, share, writes = server.seconds, client.share, server.writes
    begun = await saying
    due, got = len(readers) * events, sum(r.count - r.repeated for r in readers)
    took = (last - begun) if last else patience
    return {
        "view": ring.name,
        "readers": len(readers),
        "channels": len(ring.places),
        "rate": rate,
        "due": due,
        "lost": due - got,
        "repeated": sum(reader.repeated for reader in readers),
        "seconds": round(took, 2),
        "writes": writes,
        "CPU µs a write": round(1e6 * spent / max(1, writes), 1),
        "events/s": round(got / took),
        "events/s at a full core": round(got / max(0.001, spent)),
        **milliseconds(list(chain.from_iterable(reader.late for reader in readers))),
        "client % of a core": round(share, 1),
    }


async def load(
    name: str, wishes: Wishes, *, followers: int, channels: int, events: int, rate: float
) -> Row:
    """Measure new readers: `events` on each channel, `rate` a second in all channels together."""
    async with peer_server(name, wishes.place, channels=channels) as ring:
        readers = ring.readers(followers, timed=followers // 5)
        await connected(readers, within=120)
        patience = wishes.size(PATIENCE, 5)
        return await delivery(ring, readers, events=events, rate=rate, patience=patience)


async def sweep(
    name: str, wishes: Wishes, steps: Sequence[tuple[int, int]], *, seconds: float
) -> AsyncIterator[Row]:
    """Measure one channel in steps, each with a number of readers and a rate of events.

    New readers start after the newest event. The steps end once the view is far behind.
    """
    async with peer_server(name, wishes.place, channels=1) as ring:
        readers: list[Reader] = []
        for count, rate in steps:
            new = ring.readers(count - len(readers), timed=(count - len(readers)) // 5)
            for reader in new:
                reader.last = readers[0].last if readers else None
            await connected(new, within=120)
            readers += new
            row = await delivery(
                ring,
                readers,
                events=max(4, int(seconds * rate)),
                rate=rate,
                patience=wishes.size(SWEEP_PATIENCE, 5),
            )
            yield row
            late = row["p50 ms"]
            assert isinstance(late, float)
            if late > BEHIND:
                return


async def waiting(names: Sequence[str], wishes: Wishes, *, followers: int) -> AsyncIterator[Row]:
    """The cost of followers without any events.

    Each server has the machine to itself until its followers are open. Then all of them idle.
    """
    async with AsyncExitStack() as stack:
        servers: dict[str, tuple[Cost, Row]] = {}
        for name in names:
            ring = await stack.enter_async_context(
                peer_server(name, wishes.place, channels=1),
            )
            some = ring.readers(20)
            await connected(some, within=30)  # so that everything that is created only once exists
            server = Cost(ring.web.pid)
            memory, threads = server.memory, server.threads
            await connected(ring.readers(followers), within=300, at_once=50)
            await asyncio.sleep(wishes.size(2, 0))  # until the work of opening them has ended
            opened: Row = {
                "KB a follower": round((server.memory - memory) / followers / 1024, 1),
                "more threads": server.threads - threads,
            }
            servers[name] = server, opened
        for server, _ in servers.values():
            server.begin()
        await asyncio.sleep(wishes.size(15, 1))
        for name, (server, row) in servers.items():
            yield {
                "load": "waiting",
                "view": name,
                "readers": followers,
                **row,
                "server % of a core": round(server.share, 2),
            }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    crowd, seconds = wishes.size(500, 20), 2.0 if not wishes.small else 0.2
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):
        rates = [(crowd, rate) for rate in (10, 25, RATE, 100, 200)]
        async for row in sweep(name, wishes, rates, seconds=seconds):
            yield {"load": "rates", **row}
        counts = [(count, RATE) for count in (crowd // 10, crowd // 2, crowd, 2 * crowd)]
        async for row in sweep(name, wishes, counts, seconds=seconds):
            yield {"load": "readers", **row}
    row = await load(
        DATABASE_STORAGE, wishes, followers=crowd, channels=1, events=10, rate=2 * RATE
    )
    yield {"load": "rates", **row}
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):  # as fast as possible: where is the limit?
        row = await load(name, wishes, followers=crowd, channels=1, events=400, rate=0)
        yield {"load": "at once", **row}
    events, rate = wishes.size(10, 4), wishes.size(1000, 40)
    for name in with_nchan(OURS, BARE, REDIS_STORAGE):
        row = await load(
            name, wishes, followers=2 * crowd, channels=crowd, events=events, rate=rate
        )
        yield {"load": "channels", **row}
    names = with_nchan(OURS, BARE, REDIS_STORAGE)
    async for row in waiting(names, wishes, followers=wishes.size(2000, 40)):
        yield row


if __name__ == "__main__":
    benchmark("fanout", measure)
