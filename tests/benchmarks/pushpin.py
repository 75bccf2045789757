"""How late an event is for readers that Pushpin holds, and what it costs the bridge.

Many new channels with two readers each, then one channel with a thousand readers. Every process may
run on every core, because Pushpin itself has three busy threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path

from config.pushpin.run import PROGRAMS
from tests.benchmarks.cost import Cost
from tests.benchmarks.peer_servers import OURS, UNBOUND, PeerServer
from tests.benchmarks.readers import Place, connected, heard
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds
from tests.support.databases import migrated
from tests.support.process import Process
from tests.support.procfile import CHECKOUT
from tests.support.pushpin_stack import PushpinStack
from tests.support.stack import Stack

PATIENCE = 60  # seconds from the first event until a missing event counts as lost


@asynccontextmanager
async def ring(place: Path, channels: int) -> AsyncIterator[tuple[PeerServer, Process]]:
    """Channels that are read through Pushpin, their publisher, and the bridge."""
    chosen = PushpinStack.shared_settings()
    with migrated(place) as database:
        async with (
            Stack(place / "stack", database, workers=0, also=UNBOUND | chosen) as stack,
            PushpinStack(stack, chosen) as gripped,
        ):
            mouth = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.benchmarks.publisher", "ours", str(channels)),
                cwd=CHECKOUT,
                env=stack.web.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**26,
            )
            assert mouth.stdin
            assert mouth.stdout
            told = json.loads(await asyncio.wait_for(mouth.stdout.readline(), 120))
            places = [Place(**one) for one in told]
            yield (
                PeerServer(OURS, gripped.port, stack.web, stack.valkey, places, mouth),
                gripped.bridge,
            )
            mouth.stdin.close()
            await asyncio.wait_for(mouth.wait(), 20)


async def load(
    wishes: Wishes,
    *,
    followers: int,
    channels: int,
    events: int,
    rate: float,
    settled: float = 0,
) -> Row:
    """Measure `events` on each channel, `rate` a second in all channels together.

    The events begin `settled` seconds after all readers are connected.
    """
    place = wishes.place / str(channels)
    place.mkdir()
    async with ring(place, channels) as (arena, bridge):
        readers = arena.readers(followers, timed=followers)
        await connected(readers, within=60)
        await asyncio.sleep(settled)
        costs = [Cost(bridge.pid).begin(), Cost(arena.web.pid).begin(), Cost().begin()]
        saying = asyncio.create_task(arena.say(events * channels, rate=rate))
        last = await heard(readers, events, within=PATIENCE)
        passing, answering, listening = [cost.seconds for cost in costs]
        begun = await saying
        due, got = followers * events, sum(r.count - r.repeated for r in readers)
        took = (last - begun) if last else float(PATIENCE)
        return {
            "load": f"{followers} of {channels}, {rate:g}/s",
            "due": due,
            "lost": due - got,
            "repeated": sum(reader.repeated for reader in readers),
            "seconds": round(took, 1),
            **milliseconds(list(chain.from_iterable(reader.late for reader in readers))),
            "bridge µs an event": round(1e6 * passing / (events * channels)),
            "web % of a core": round(100 * answering / took),
            "client % of a core": round(100 * listening / took),
        }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        sys.exit(f"Pushpin's {missing[0]} is not on the PATH. On Debian: apt-get install pushpin")
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    fresh, crowd = wishes.size(500, 20), wishes.size(1000, 40)
    yield await load(
        wishes, followers=2 * fresh, channels=fresh, events=wishes.size(10, 4), rate=2 * fresh
    )
    yield await load(wishes, followers=crowd, channels=1, events=wishes.size(100, 40), rate=20)
    # The load of docs/scale.md: each reader with its own reply at 50 tokens a second. By then
    # Pushpin has requested the next URL, which it does a second after it subscribes to a channel.
    for replies in (wishes.size(40, 4), wishes.size(80, 8)):
        yield await load(
            wishes,
            followers=replies,
            channels=replies,
            events=wishes.size(400, 40),
            rate=50 * replies,
            settled=3,
        )


if __name__ == "__main__":
    benchmark("pushpin", measure)
