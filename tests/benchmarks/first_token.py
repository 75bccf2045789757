"""How long a client waits for the 202, and for the first token beyond the model's own time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.peer_servers import OURS
from tests.benchmarks.peer_streamers import DJANGO, FASTAPI, Streamer, streamer
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds, part
from tests.benchmarks.service import Service, service

TURNS = 10  # turns of a conversation; few, because the peers get no history


def token(said: bytes) -> bool:
    return b"@w" in said  # how the stamping model's pieces begin


async def accepted(home: Service, questions: int) -> list[float]:
    """µs from POST to 202 in a new conversation, one after another. The worker writes replies."""
    took = []
    for n in range(questions):
        asked = await home.client.ask(tokens=5, seed=n)
        took.append(1e6 * (asked.accepted - asked.posted))
        await asyncio.sleep(0.02)
    return took


async def answered(home: Service, questions: int) -> list[float]:
    """µs from the POST until a connected follower receives the first token."""
    took: list[float] = []
    while len(took) < questions:
        begun = await home.client.ask(tokens=1)
        reader = home.client.reader(begun)
        await reader.connect()
        await home.over([begun], within=30)
        for n in range(TURNS):
            await asyncio.sleep(0.05)  # until the run of the reply before is released
            first = asyncio.ensure_future(reader.hears(token, within=30))
            await asyncio.sleep(0)
            asked = await home.client.ask(begun.conversation, tokens=1, seed=n)
            took.append(1e6 * (await first - asked.posted))
            await home.over([asked], within=30)
        reader.drop()
    return took


async def directly(peer: Streamer, questions: int) -> list[float]:
    took = []
    for n in range(questions):
        reader = peer.asks(f"{n}", tokens=1, seed=n)
        begun = time.monotonic()
        await reader.connect()
        took.append(1e6 * (await reader.hears(token, within=30) - begun))
    return took


async def by_the_model(home: Service, questions: int) -> list[float]:
    """µs from a request to the model until its first token, without the service in between."""
    port = int(home.stack.worker.environment["OPENAI_BASE_URL"].split(":")[2].split("/")[0])
    model = Streamer("the model", port, home.stack.model)
    took = []
    for n in range(questions):
        reader = model.asks("v1/chat/completions", tokens=1, seed=n)
        body = b'{"messages": [{"role": "user", "content": "{\\"tokens\\": 1}"}]}'
        reader.place = type(reader.place)(path=reader.place.path, headers={}, body=body)
        begun = time.monotonic()
        await reader.connect()
        took.append(1e6 * (await reader.hears(token, within=10) - begun))
    return took


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    questions = wishes.size(150, 10)
    async with service(wishes) as home:
        pin(MEASURED, home.stack.web.pid)
        model = part(await by_the_model(home, questions), 0.5)
        web, worker = Cost(home.stack.web.pid).begin(), Cost(home.stack.worker.pid).begin()
        took = await accepted(home, questions)
        posts = web.seconds
        await asyncio.sleep(1)  # until the last replies have ended
        yield {
            "way": "POST to 202",
            "who": OURS,
            **milliseconds(took),
            "web CPU ms": round(1e3 * posts / questions, 1),
            "worker CPU ms, a reply of 5 tokens": round(1e3 * worker.seconds / questions, 1),
        }
        waits = {OURS: await answered(home, questions)}
        for name in (DJANGO, FASTAPI):
            async with streamer(name, home, wishes.place) as peer:
                await directly(peer, 3)
                waits[name] = await directly(peer, questions)
        least = part(waits[OURS], 0.5) - model
        for name, wait in waits.items():
            beyond = [each - model for each in wait]
            yield {
                "way": "POST to the first token",
                "who": name,
                **milliseconds(beyond),
                "ours is × this": round(least / part(beyond, 0.5), 2),
            }


if __name__ == "__main__":
    benchmark("first_token", measure)
