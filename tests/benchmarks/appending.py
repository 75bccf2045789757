"""What one Redis keeps and does for an event: bytes in the log, commands, processor time.

Ours and the library's append the same number of events under the same loads, because an append in a
trip of its own costs Redis less if the next one follows at once than after a pause.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import redis.asyncio

from tests.benchmarks.cost import Cost
from tests.benchmarks.peer_servers import OURS, REDIS_STORAGE, PeerServer, peer_server
from tests.benchmarks.report import Row, Wishes, benchmark
from tests.benchmarks.service import service

RATE = 500  # tokens a second
AT_ONCE, PACED, A_REPLY = "one by one", f"one by one, {RATE}/s", f"a reply, {RATE} tokens/s"
TOGETHER = 16  # in one trip
ASKED_ANYWAY = frozenset({"ping", "info", "brpop", "config|resetstat", "memory|usage"})


async def reset(client: redis.asyncio.Redis) -> int:
    """Begin to count commands; gives the bytes in use."""
    await client.config_resetstat()
    return int((await client.info("memory"))["used_memory"])


async def commands(client: redis.asyncio.Redis) -> Counter[str]:
    """How often each command ran, those inside of scripts included."""
    stats = await client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}
    return Counter({name: n for name, n in calls.items() if name not in ASKED_ANYWAY})


async def file_bytes(client: redis.asyncio.Redis) -> int:
    """Bytes of the append-only file."""
    return int((await client.info("persistence"))["aof_current_size"])


async def a_reply(wishes: Wishes, tokens: int) -> Row:
    """The whole service, whose worker writes one reply."""
    # Without the window, each token is an event, as each piece of the library's is.
    async with service(wishes, stamped=False, also={"DELTA_WINDOW": "0"}) as home:
        client, redis_cost = home.stack.valkey.client, Cost(home.stack.valkey.pid)
        await reset(client)
        file = await file_bytes(client)
        redis_cost.begin()
        # Paced, as a model is: what arrives together shares a trip, but no command.
        asked = await home.client.ask(tokens=tokens, rate=RATE, pause_at=tokens - 1, pause=12)
        await asyncio.sleep(tokens / RATE)
        while f"w{tokens - 2}-" not in (await home.client.run(asked.run))["text"]:
            await asyncio.sleep(2)  # each check reads the log as well
        spent, ran = redis_cost.seconds, await commands(client)
        file = await file_bytes(client) - file
        key = f"{{conversation-{asked.conversation}}}:events"
        held = int(await client.memory_usage(key, samples=0) or 0)
        said = int(await client.xlen(key))
        await home.over([asked], within=60)
        return {
            "log": OURS,
            "load": A_REPLY,
            "events": said,
            "bytes each": round(held / said),
            "file bytes each": round(file / said),
            "commands sent each": round(ran["fcall"] / said, 2),
            "commands inside": round((ran.total() - ran["fcall"]) / said, 1),
            "Redis CPU µs each": round(1e6 * spent / said, 1),
        }


async def published(peer: PeerServer, load: str, events: int, *, rate: int, trip: int) -> Row:
    """Events that a process of its own appends, in trips of so many."""
    client = peer.valkey.client
    before, redis_cost = await reset(client), Cost(peer.valkey.pid).begin()
    await peer.say(events, rate=rate, trip=trip)
    spent, ran = redis_cost.seconds, await commands(client)
    held = int((await client.info("memory"))["used_memory"]) - before
    sent = ran["fcall"] or ran.total()
    return {
        "log": peer.name,
        "load": load,
        "events": events,
        "bytes each": round(held / events),
        "commands sent each": round(sent / events, 2),
        "Redis CPU µs each": round(1e6 * spent / events, 1),
    }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    events = wishes.size(5000, 500)
    yield await a_reply(wishes, events)
    for name in (OURS, REDIS_STORAGE):
        async with peer_server(name, wishes.place, channels=1) as peer:
            yield await published(peer, PACED, events, rate=RATE, trip=1)
            yield await published(peer, AT_ONCE, events, rate=0, trip=1)
            if name == OURS:
                load = f"{TOGETHER} in a trip"
                yield await published(peer, load, events, rate=0, trip=TOGETHER)


if __name__ == "__main__":
    benchmark("appending", measure)
