"""The cost of a token at several speeds of the reply: twenty replies at a time, each with a reader.

The replies start before the measurement and end after it. So the costs of questions and endings,
which `end_to_end` includes, are left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import chain

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.peer_servers import OURS
from tests.benchmarks.peer_streamers import DJANGO, FASTAPI, RESUMABLE, Streamer, streamer
from tests.benchmarks.readers import Reader
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds
from tests.benchmarks.service import Asked, Service, service

RATES = (20, 50, 200, 1000)  # tokens a second of each reply
# Seconds until the first token. By then all questions have been asked.
START, SMALL_START = 2.5, 1.5
WARM = 0.5  # seconds of tokens before the measurement, and again after it
APART = 0.05  # seconds between two questions

# Asks for a reply with this name and script, and returns its connected reader.
Ask = Callable[[str, Mapping[str, float]], Awaitable[Reader]]


async def steady(wishes: Wishes, ask: Ask, costs: Mapping[str, Sequence[Cost]], rate: int) -> Row:
    """The processor time of these processes for a token, while all replies run."""
    replies, seconds = wishes.size(20, 3), 2.0 if not wishes.small else 0.5
    tokens, start = int((seconds + 2 * WARM) * rate), SMALL_START if wishes.small else START
    begun = time.monotonic()

    async def one(n: int) -> Reader:
        await asyncio.sleep(n * APART)
        wait = start - (time.monotonic() - begun)
        script = {"tokens": tokens, "rate": rate, "first": wait, "seed": n}
        return await ask(f"{rate}-{n}", script)

    readers = await asyncio.gather(*map(one, range(replies)))
    await asyncio.sleep(begun + start + WARM - time.monotonic())
    for reader in readers:
        reader.count = 0
        del reader.late[:]
    own = Cost().begin()
    for cost in chain.from_iterable(costs.values()):
        cost.begin()
    await asyncio.sleep(seconds)
    spent = {name: sum(cost.seconds for cost in some) for name, some in costs.items()}
    heard, events = (sum(n) for n in zip(*((len(r.late), r.count) for r in readers), strict=True))
    late = milliseconds(list(chain.from_iterable(reader.late for reader in readers)))
    row = {
        "replies": replies,
        "rate": rate,
        "tokens/s": round(heard / seconds),
        "of the model's %": round(100 * heard / (replies * rate * seconds)),
        **({"events a token": round(events / heard, 3)} if events else {}),
        **{f"{name} µs a token": round(1e6 * spent[name] / heard, 1) for name in spent},
        **late,
        "client % of a core": round(own.share, 1),
    }
    await asyncio.sleep(WARM)
    for reader in readers:
        reader.drop()
    return row


async def ours(home: Service, wishes: Wishes) -> AsyncIterator[Row]:
    stack = home.stack
    web, worker, redis = stack.web.pid, stack.worker.pid, stack.valkey.pid
    costs = {
        "processes": [Cost(web), Cost(worker)],
        "worker": [Cost(worker)],
        "Redis": [Cost(redis)],
    }
    for rate in RATES:
        runs: list[Asked] = []

        async def ask(_: str, script: Mapping[str, float], runs: list[Asked] = runs) -> Reader:
            client = home.another_client()
            runs.append(await client.ask(None, **script))
            reader = client.reader(runs[-1])
            await reader.connect()
            return reader

        yield {"way": OURS, **await steady(wishes, ask, costs, rate)}
        await home.over(runs, within=60)


async def theirs(peer: Streamer, home: Service, wishes: Wishes) -> AsyncIterator[Row]:
    async def ask(name: str, script: Mapping[str, float]) -> Reader:
        reader = peer.asks(name, **script)
        await reader.connect()
        return reader

    first = await ask("first", {"tokens": 2, "rate": 50, "first": 0.0, "seed": 0})
    await first.hears(lambda said: b"data:" in said, within=60)  # until all imports are done
    first.drop()
    costs = {"processes": [Cost(peer.web.pid)], "Redis": [Cost(home.stack.valkey.pid)]}
    for rate in RATES:
        yield {"way": peer.name, **await steady(wishes, ask, costs, rate)}


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    async with service(wishes) as home:
        pin(MEASURED, home.stack.web.pid)
        async for row in ours(home, wishes):
            yield row
        for name in (DJANGO, FASTAPI, RESUMABLE):
            async with streamer(name, home, wishes.place) as peer:
                async for row in theirs(peer, home, wishes):
                    yield row


if __name__ == "__main__":
    benchmark("token_rates", measure)
