"""A thousand readers connect at once and replay the events that they missed, as after a deploy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from tests.benchmarks.cost import Cost
from tests.benchmarks.nchan import with_nchan
from tests.benchmarks.peer_servers import OURS, REDIS_STORAGE, peer_server
from tests.benchmarks.readers import heard
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds

CHANNELS = 100
PATIENCE = 90  # seconds


async def rush(name: str, wishes: Wishes, *, readers: int, events: int) -> Row:
    channels = min(CHANNELS, readers)
    async with peer_server(name, wishes.place, channels=channels) as ring:
        await ring.say(events * channels)
        # One earlier reader, so that the web process has done all that it does only once.
        early = ring.readers(1)
        await early[0].connect()
        await heard(early, events, within=PATIENCE)
        crowd = ring.readers(readers)
        server, client, begun = Cost(ring.web.pid).begin(), Cost().begin(), time.monotonic()
        await asyncio.gather(*(reader.connect() for reader in crowd))
        last = await heard(crowd, events, within=PATIENCE)
        spent, share, writes = server.seconds, client.share, server.writes
        took = (last - begun) if last else float(PATIENCE)
        got = sum(reader.count - reader.repeated for reader in crowd)
        answered = [1e6 * (reader.begun - begun) for reader in crowd if reader.begun]
        return {
            "view": name,
            "readers": readers,
            "events each": events,
            "lost": readers * events - got,
            "repeated": sum(reader.repeated for reader in crowd),
            "writes": writes,
            "all caught up s": round(took, 2),
            "readers/s": round(sum(r.count >= events for r in crowd) / took),
            "server CPU ms each": round(1000 * spent / readers, 2),
            **{f"answered {name}": value for name, value in milliseconds(answered).items()},
            "client % of a core": round(share, 1),
        }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    for name in with_nchan(OURS, REDIS_STORAGE):
        yield await rush(name, wishes, readers=wishes.size(1000, 20), events=wishes.size(200, 20))


if __name__ == "__main__":
    benchmark("opening", measure)
