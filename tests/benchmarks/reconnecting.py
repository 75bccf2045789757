"""Reconnecting to a very long reply: the time and bytes until a reader is up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from tests.benchmarks.peer_servers import OURS
from tests.benchmarks.peer_streamers import RESUMABLE, Streamer, streamer
from tests.benchmarks.readers import Reader
from tests.benchmarks.report import Row, Wishes, benchmark, part
from tests.benchmarks.service import Service, service

TIMES = 9  # visits; the median counts
SILENCE = 60.0  # seconds that the model pauses, so that all visits find the same text
LATE = b"conversation.snapshot"


async def until_quiet(reader: Reader, *, least: int) -> float:
    """Seconds from the connection until the last byte, after which none arrives for 0.5 s."""
    begun = time.monotonic()
    await reader.connect()
    while reader.received < least and time.monotonic() - begun < 20:
        await asyncio.sleep(0.01)
    while time.monotonic() - reader.arrived < 0.5:
        await asyncio.sleep(0.01)
    return reader.arrived - begun


async def visits(name: str, readers: list[Reader], *, text: int) -> Row:
    took = []
    for reader in readers:
        took.append(await until_quiet(reader, least=text))
        reader.drop()
    reader = readers[-1]
    return {
        "how": name,
        "ms": round(1000 * part(took, 0.5), 1),
        "bytes": reader.received,
        "events with an id": reader.count,
        "bytes / text": round(reader.received / text, 2),
    }


async def ours(home: Service, tokens: int) -> AsyncIterator[Row]:
    client = home.client
    asked = await client.ask(tokens=tokens + 5, pause_at=tokens, pause=SILENCE)
    async with asyncio.timeout(60):
        while f"w{tokens - 1}-" not in (await client.run(asked.run))["text"]:
            await asyncio.sleep(0.3)
    text = len((await client.run(asked.run))["text"].encode())
    once = [client.reads(f"/api/runs/{asked.run}/") for _ in range(TIMES)]
    yield await visits(f"{OURS}: its text, read once (GET)", once, text=text)
    fresh = [client.reader(asked, cursor=False) for _ in range(TIMES)]
    for reader in fresh:
        reader.timing = False
    yield await visits(f"{OURS}: without a cursor", fresh, text=text)
    old = [client.reader(replace(asked, cursor=asked.cursor + 3)) for _ in range(TIMES)]
    for reader in old:
        reader.timing = False
    yield await visits(f"{OURS}: with the cursor of its beginning", old, text=text)
    await client.call("POST", f"/api/runs/{asked.run}/cancel/")


async def theirs(peer: Streamer, tokens: int) -> Row:
    first = peer.asks("long", tokens=tokens + 5, pause_at=tokens, pause=SILENCE)
    first.timing = False
    await until_quiet(first, least=tokens * 10)
    readers = [peer.comes_back("long") for _ in range(TIMES)]
    for reader in readers:
        reader.timing = False
    # Its frames differ from ours, so its size is estimated: the text is 21 characters a token.
    return await visits(f"{RESUMABLE}: came back", readers, text=tokens * 19)


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    tokens = wishes.size(40_000, 2_000)
    async with service(wishes) as home:
        async for row in ours(home, tokens):
            yield row
        async with streamer(RESUMABLE, home, wishes.place) as peer:
            yield await theirs(peer, tokens)


if __name__ == "__main__":
    benchmark("reconnecting", measure)
