"""The whole way of a token, from the model to the follower, and the time that it adds to a reply.

Twenty replies run at a time, each with one follower, at fifty tokens a second. Peers stream from
the model to the client that asked. The measured processes are web and worker, or the peer's single
process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import chain

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.peer_servers import OURS
from tests.benchmarks.peer_streamers import DJANGO, FASTAPI, RESUMABLE, Streamer, streamer
from tests.benchmarks.readers import Reader
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds, part
from tests.benchmarks.service import Service, service

REPLIES, RATE = 20, 50
APART = 0.13  # seconds between two questions, so that no two are sent at the same moment

Told = tuple[Reader, float]  # the reader of a reply, and the seconds from the question to its end


def over(said: bytes) -> bool:
    return b"event: run.completed" in said or b"[DONE]" in said


async def ours(home: Service, n: int, tokens: int) -> Told:
    await asyncio.sleep(n * APART)
    client = home.another_client()
    asked = await client.ask(tokens=tokens, rate=RATE, seed=n)
    reader = client.reader(asked)
    await reader.connect()
    return reader, await reader.hears(over, within=tokens / RATE + 30) - asked.posted


async def directly(peer: Streamer, n: int, tokens: int) -> Told:
    await asyncio.sleep(n * APART)
    reader, begun = peer.asks(f"{n}", tokens=tokens, rate=RATE, seed=n), time.monotonic()
    await reader.connect()
    return reader, await reader.hears(over, within=tokens / RATE + 30) - begun


async def again(peer: Streamer, n: int, tokens: int) -> Told:
    """Over Redis: a client that posted, disconnected at once and reconnected."""
    await asyncio.sleep(n * APART)
    first, begun = peer.asks(f"again{n}", tokens=tokens, rate=RATE, seed=n), time.monotonic()
    await first.connect()
    await first.hears(lambda said: b"data:" in said, within=10)
    reader = peer.comes_back(f"again{n}")
    await reader.connect()
    ended = await reader.hears(over, within=tokens / RATE + 30)
    del reader.late[:2]  # events published before it connected are not late
    return reader, ended - begun


async def row(
    name: str,
    spent: list[Cost],
    redis: Cost,
    tell: Callable[[int], Awaitable[Told]],
    least: float,
) -> Row:
    own = Cost().begin()
    for cost in (*spent, redis):
        cost.begin()
    told = await asyncio.gather(*(tell(n) for n in range(REPLIES)))
    seconds = sum(cost.seconds for cost in spent)
    whole = part([took for _, took in told], 0.5)
    tokens = sum(len(reader.late) for reader, _ in told)
    events = sum(reader.count for reader, _ in told)  # 0 for the peers, whose events have no ids
    return {
        "way": name,
        "tokens": tokens,
        **({"events a token": round(events / tokens, 2)} if events else {}),
        "processes µs a token": round(1e6 * seconds / tokens),
        "Redis µs a token": round(1e6 * redis.seconds / tokens),
        **milliseconds(list(chain.from_iterable(reader.late for reader, _ in told))),
        "whole reply s": round(whole, 3),
        "over the model %": round(100 * (whole / least - 1), 2),
        "processes % of a core": round(sum(cost.share for cost in spent), 1),
        "client % of a core": round(own.share, 1),
    }


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    tokens = wishes.size(500, 50)
    least = tokens / RATE  # seconds that the model takes
    async with service(wishes) as home:
        web = home.stack.web
        pin(MEASURED, web.pid)
        costs, redis = [Cost(web.pid), Cost(home.stack.worker.pid)], Cost(home.stack.valkey.pid)
        yield await row(OURS, costs, redis, lambda n: ours(home, n, tokens), least)
        for name in (DJANGO, FASTAPI, RESUMABLE):
            async with streamer(name, home, wishes.place) as peer:
                warm, _ = await directly(peer, 0, 5)
                warm.drop()
                costs = [Cost(peer.web.pid)]
                yield await row(name, costs, redis, partial(directly, peer, tokens=tokens), least)
                if name == RESUMABLE:
                    came = f"{name}, came back"
                    yield await row(came, costs, redis, partial(again, peer, tokens=tokens), least)


if __name__ == "__main__":
    benchmark("end_to_end", measure)
