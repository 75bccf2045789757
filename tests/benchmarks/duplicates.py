"""Counts events that readers receive twice after a reconnect, with this and with other views.

Readers of one channel drop their connections at random while events are published. They reconnect
at once with the last id that they received, as an EventSource does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

from tests.benchmarks.cost import Cost
from tests.benchmarks.peer_servers import DATABASE_STORAGE, OURS, REDIS_STORAGE, peer_server
from tests.benchmarks.readers import Reader, connected, heard
from tests.benchmarks.report import Row, Wishes, benchmark

RATE = 100  # events a second
SEED = 7
PATIENCE = 20  # seconds after the last event until a missing event counts as lost


async def restless(reader: Reader, drops: list[float]) -> None:
    """Drop the connection at these moments (monotonic seconds), and reconnect at once."""
    for moment in sorted(drops):
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        reader.drop()
        await reader.connect()


async def contest(name: str, wishes: Wishes) -> Row:
    readers_count, drops = wishes.size(20, 4), wishes.size(15, 3)
    events = wishes.size(1000, 150) if name != DATABASE_STORAGE else wishes.size(1000, 60)
    chance = random.Random(SEED)
    async with peer_server(name, wishes.place, channels=1) as ring:
        readers = ring.readers(readers_count)
        for reader in readers:
            reader.numbers = set()
        await connected(readers, within=60)
        client = Cost().begin()
        now, lasts = time.monotonic() + 0.3, events / RATE
        saying = asyncio.create_task(ring.say(events, rate=RATE, within=300))
        moments = [[now + chance.uniform(0, lasts) for _ in range(drops)] for _ in readers]
        await asyncio.gather(*map(restless, readers, moments))
        await saying
        await heard(readers, events, within=PATIENCE)
        return {
            "view": name,
            "readers": len(readers),
            "drops": drops * len(readers),
            "events": events,
            "heard": sum(reader.count for reader in readers),
            "repeated": sum(reader.repeated for reader in readers),
            "backwards": sum(reader.backwards for reader in readers),
            "lost": sum(events - len(reader.numbers or ()) for reader in readers),
            "client % of a core": client.share,
        }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    for name in (OURS, REDIS_STORAGE, DATABASE_STORAGE):
        yield await contest(name, wishes)


if __name__ == "__main__":
    benchmark("duplicates", measure)
