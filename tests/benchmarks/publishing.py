"""What one worker process costs per token, and how late a token is published after the model.

The worker has a core to itself. The scripted model, Redis and the `Ear`, which subscribes to Redis,
share the other core. There is no follower.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.report import Row, Wishes, benchmark, milliseconds
from tests.benchmarks.service import Ear, Service, service
from tests.support.ports import essentials
from tests.support.procfile import CHECKOUT

RATE, FAST = 50, 1000  # tokens a second and reply
# Seconds until the first token. By then all requests have been sent and wait.
START, SMALL_START = 6, 3


async def reading(home: Service, *, replies: int, seconds: float) -> float:
    """Processor µs per token of a process that only reads the model's streams."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.benchmarks.model_reading",
            str(replies),
            str(RATE),
            str(seconds),
        ),
        cwd=CHECKOUT,
        env={**essentials(), **home.stack.worker.environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    await process.stdout.readline()
    pin(MEASURED, process.pid)
    said, _ = await asyncio.wait_for(process.communicate(), seconds + 60)
    return float(said)


async def saying(
    home: Service, *, replies: int, seconds: float, start: float, rate: int = RATE
) -> Row:
    worker = Cost(home.stack.worker.pid)
    empty = worker.memory
    tokens = int((seconds + 3) * rate)
    asked = await asyncio.gather(
        *(
            home.another_client().ask(tokens=tokens, rate=rate, first=start, seed=n)
            for n in range(replies)
        )
    )
    await asyncio.sleep(start - 1.5)
    full = worker.memory
    await asyncio.sleep(3)
    async with Ear(home.stack.valkey.port) as ear:
        redis = Cost(home.stack.valkey.pid).begin()
        worker.begin()
        own, source = Cost().begin(), Cost(home.stack.model.pid).begin()
        ear.forget()
        await asyncio.sleep(seconds - 1)
        heard, spent, share = ear.heard, worker.seconds, worker.share
        model = source.share
        row = {
            "replies": replies,
            "rate": rate,
            "tokens/s": round(heard / (seconds - 1)),
            "of the model's %": round(100 * heard / ((seconds - 1) * rate * replies)),
            "events a token": round(ear.events / max(1, heard), 3),
            "worker CPU µs/token": round(1e6 * spent / max(1, heard)),
            "worker % of a core": round(share, 1),
            **milliseconds(ear.late),
            "KB a waiting reply": round((full - empty) / replies / 1024),
            "Redis CPU µs/token": round(1e6 * redis.seconds / max(1, heard)),
            "model % of a core": round(model, 1),
            "ear % of a core": round(own.share, 1),
        }
    await home.over(asked, within=seconds + 60)
    return row


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    seconds, start = wishes.size(10, 2), wishes.size(START, SMALL_START)
    shares: dict[int, float] = {}  # percent of a core, by the number of replies
    async with service(wishes) as home:
        for replies in (wishes.size(16, 2), wishes.size(64, 4)):
            row = await saying(home, replies=replies, seconds=seconds, start=start)
            only = await reading(home, replies=replies, seconds=min(seconds, 5))
            spent, share = row["worker CPU µs/token"], row["worker % of a core"]
            assert isinstance(spent, int)
            assert isinstance(share, float)
            shares[replies] = share
            yield {**row, "reading alone": round(only), "ours µs/token": round(spent - only)}
        for replies, slow in shares.items():
            some = wishes.size(8, 2)
            row = await saying(home, replies=replies, seconds=some, start=start, rate=FAST)
            share = row["worker % of a core"]
            assert isinstance(share, float)
            yield {**row, f"cost × at {RATE}/s": round(share / max(0.1, slow), 2)}


if __name__ == "__main__":
    benchmark("publishing", measure)
