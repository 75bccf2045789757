"""The web process's cost for a reader of another client's wire, compared with an EventSource.

The wires take turns, so that changes of the machine's speed affect all of them. Add the path and
the end of a new wire's stream to `WIRES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from statistics import median

from tests.benchmarks.cost import Cost
from tests.benchmarks.readers import connected
from tests.benchmarks.report import Row, Wishes, benchmark
from tests.benchmarks.service import Service, service

NATIVE = "EventSource"
# The path of a run's stream, and bytes that only its last frames contain.
WIRES = {
    NATIVE: ("/api/conversations/{conversation}/events/?until=idle", b"run.completed"),
    "AI SDK": ("/api/chat/{conversation}/stream", b"[DONE]"),
    "LangGraph": ("/threads/{conversation}/runs/{run}/stream", b"event: end"),
    "Responses": ("/v1/responses/resp_{run}?stream=true", b"response.completed"),
}
RATE = 50  # tokens a second
WITHIN = 120.0  # seconds


async def cost(home: Service, wire: str, *, readers: int, tokens: int) -> float:
    """Processor time of the web process in µs, for each token of each reader."""
    address, end = WIRES[wire]
    asked = await home.client.ask(tokens=tokens, rate=RATE, first=1.5)
    path = address.format(conversation=asked.conversation, run=asked.run)
    reading = [home.client.reads(path) for _ in range(readers)]
    await connected(reading, within=60)
    ends = [asyncio.create_task(one.hears(lambda data: end in data, WITHIN)) for one in reading]
    web = Cost(home.stack.web.pid).begin()
    await asyncio.gather(*ends)
    spent = web.seconds
    for one in reading:
        one.drop()
    return 1_000_000 * spent / (readers * tokens)


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    rounds, readers = wishes.size(4, 1), wishes.size(50, 3)
    tokens = wishes.size(100, 20)
    async with service(wishes) as home:
        spent: dict[str, list[float]] = {wire: [] for wire in WIRES}
        for _ in range(rounds):
            for wire, costs in spent.items():
                costs.append(await cost(home, wire, readers=readers, tokens=tokens))
    for wire, costs in spent.items():
        ratios = [one / native for one, native in zip(costs, spent[NATIVE], strict=True)]
        yield {
            "wire": wire,
            "readers": readers,
            "µs a token": round(median(costs), 1),
            "least": round(min(costs), 1),
            "most": round(max(costs), 1),
            "of the stream's": round(median(ratios), 2),
        }


if __name__ == "__main__":
    benchmark("wires", measure)
