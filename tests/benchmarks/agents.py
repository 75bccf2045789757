"""The processor time that the engine adds to an agent's token, compared with the graph alone.

The benchmark reads one LangGraph graph in pairs: first in the engine's stream modes with the
results dropped, then as the engine reads an agent. It gives the median of each, and of their ratio.
Then a whole agents process writes the same reply, with the log, the limits and the lease. A plain
generator as the agent shows the engine's own share.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing

import django

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.report import Row, Wishes, benchmark
from tests.benchmarks.service import service

BAR = 1.5  # times the graph's own cost, at most


async def alone(tokens: int) -> float:
    """µs per token of the graph with its results dropped."""
    from tests.benchmarks.agent_graph import built
    from workers.agents.graph import MODES

    began = time.process_time()
    asked = {"messages": [("user", str(tokens))]}
    async for _ in built.astream(asked, stream_mode=MODES, version="v2", subgraphs=True):  # type: ignore[call-overload]  # its types do not know the mode `tools`
        pass
    return 1e6 * (time.process_time() - began) / tokens


async def read(tokens: int) -> float:
    """µs per token of the agent as an attempt reads it."""
    from tests.benchmarks.agent_graph import agent
    from workers.agents.reply import reply_of
    from workers.agents.testing import turn_of

    began = time.process_time()
    async with aclosing(reply_of(agent, turn_of(str(tokens)))) as items:
        async for _ in items:
            pass
    return 1e6 * (time.process_time() - began) / tokens


async def written(wishes: Wishes, tokens: int, times: int, window: float) -> list[Row]:
    """The cost of an agents process for the replies of the graph and of the plain agent.

    The cost per token excludes the cost of a run with one token, which has its own column.
    """
    from tests.benchmarks.agent_graph import AGENT, PLAIN

    also = {"AGENTS": f"graph={AGENT},plain={PLAIN}", "DELTA_WINDOW": str(window)}
    async with service(wishes, workers=0, stamped=False, also=also) as home:
        process = await home.stack.add_agents()
        pin(MEASURED, process.pid)
        visitor = await home.stack.visitor()

        async def spent(model: str, length: int) -> tuple[float, int]:
            """Processor seconds of one reply, and the events that a reader received."""
            cost = Cost(process.pid).begin()
            one = await visitor.ask(str(length), model=model)
            follower = visitor.follower(one.conversation, cursor=one.cursor)
            await follower.follow()
            return cost.seconds, sum(1 for _ in follower.recording.received())

        rows: list[Row] = []
        for model in ("graph", "plain"):
            await spent(model, tokens)  # warms up
            runs = [(await spent(model, 1), await spent(model, tokens)) for _ in range(times)]
            own = statistics.median(short[0] for short, _ in runs)
            rows.append(
                {
                    "agent": f"an agents process, {model}, DELTA_WINDOW {window:g}",
                    "CPU µs a token": statistics.median(
                        1e6 * (long[0] - short[0]) / tokens for short, long in runs
                    ),
                    "events a token": statistics.median(long[1] for _, long in runs) / tokens,
                    "CPU ms a run": 1000 * own,
                }
            )
        return rows


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    """Measure the graph alone, the graph as an agent, and the whole agents process."""
    warnings.simplefilter("ignore")
    tokens, pairs = wishes.size(4000, 200), wishes.size(10, 1)
    await alone(tokens)
    await read(tokens)
    gc.collect()
    gc.freeze()  # as a worker does at its start
    rows = [(await alone(tokens), await read(tokens)) for _ in range(pairs)]
    bare = statistics.median(row[0] for row in rows)
    yield {"agent": "the graph alone, results dropped", "CPU µs a token": bare, "times": 1.0}
    ratio = statistics.median(row[1] / row[0] for row in rows)
    took = statistics.median(row[1] for row in rows)
    yield {"agent": f"read by the engine (at most {BAR})", "CPU µs a token": took, "times": ratio}
    for window in (0.02, 0):
        for row in await written(wishes, wishes.size(6_000, 200), wishes.size(3, 1), window):
            token = row["CPU µs a token"]
            assert isinstance(token, float)
            yield {**row, "times": token / bare}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    benchmark("agents", measure)
