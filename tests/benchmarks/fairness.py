"""How late a slow reply's tokens are while the same worker process writes very fast replies.

The worker has a core to itself. The scripted model, Redis, web and the reader share the other core.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.benchmarks.readers import connected
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds
from tests.benchmarks.service import Service, service

RATE = 20  # tokens a second of the slow reply
FLOOD = 5000  # tokens a second that the model offers for each other reply


async def slow(home: Service, *, beside: int, seconds: int) -> Row:
    """The lateness of one slow reply while `beside` very fast replies run all the time."""
    floods = await asyncio.gather(
        *(home.another_client().ask(tokens=20_000, rate=FLOOD, seed=n) for n in range(beside))
    )
    asked = await home.client.ask(tokens=seconds * RATE, rate=RATE)
    reader = home.client.reader(asked)
    await connected([reader], within=30)
    await home.over([asked], within=4 * seconds + 60)
    for flood in floods:
        await home.another_client().call("POST", f"/api/runs/{flood.run}/cancel/")
    await home.over(floods, within=60)
    reader.drop()
    return {"replies that flood": beside, "tokens heard": len(reader.late)} | milliseconds(
        reader.late
    )


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    seconds = wishes.size(10, 3)
    async with service(wishes) as home:
        for beside in (0, wishes.size(20, 3)):
            yield await slow(home, beside=beside, seconds=seconds)


if __name__ == "__main__":
    benchmark("fairness", measure)
