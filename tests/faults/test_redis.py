"""Outages of Redis, short and long: streams stay open, and all replies continue afterwards."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import (
    delta,
    following,
    lateness,
    numbered_since,
    quantile,
    wait_for_all,
)
from tests.support.outages import OUTAGES, full
from tests.support.visitor import AcceptedRun, Visitor, script

BACK_WITHIN = 10.0  # seconds after the return of Redis
LONG = 20_000  # tokens: a reply that lasts until it is cancelled


async def ask_when_there_is_room(visitor: Visitor, message: str) -> AcceptedRun:
    """A full Redis takes no new run: ask again when the refusal says so."""
    async with asyncio.timeout(60):
        while True:
            answer = await visitor.http.post("/api/conversations/", json={"message": message})
            if answer.status_code == 202:
                return AcceptedRun.of(answer, message)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            await asyncio.sleep(int(answer.headers["Retry-After"]))


@pytest.mark.long
async def test_an_outage_of_redis_loses_nothing(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    rounds = size(len(OUTAGES), 60)
    long_ones = -(-rounds // 3)
    seconds = [chance.uniform(8, size(12, 20)) for _ in range(long_ones)]
    seconds += [chance.uniform(0.2, 8) for _ in range(rounds - long_ones)]
    outages = [OUTAGES[n % len(OUTAGES)] for n in range(rounds)]
    chance.shuffle(outages)
    async with stacks(proxied=True) as stack:
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=20, seed=n)) for n in range(2)]
        followers = [
            visitor.follower(one.conversation, cursor=one.cursor)
            for one in asked
            for _ in range(10)
        ]
        lasting = [*followers]
        returns: list[float] = []

        async def newcomer(number: int) -> None:
            text = script(tokens=20, rate=50, seed=1000 + number)
            asked.append(await ask_when_there_is_room(visitor, text))
            followers.append(visitor.follower(asked[-1].conversation))
            await followers[-1].follow()

        async with following(followers, within=30):
            await wait_for_all(followers, delta(0), within=30)
            for number, (outage, length) in enumerate(zip(outages, seconds, strict=True)):
                away = asyncio.create_task(outage(stack, length))
                await asyncio.sleep(length / 2)
                late = asyncio.create_task(newcomer(number))
                await away
                returns.append(time.monotonic())
                await wait_for_all(lasting, numbered_since(returns[-1]), within=30)
                async with asyncio.timeout(30):
                    await late
            for one in asked[:2]:
                await visitor.cancel(one.run)
        report = await judge(visitor, asked, lasting, broken_at=returns)
        assert report.clean, report
        assert report.recovery(1) <= BACK_WITHIN, report
        newcomers = await judge(visitor, asked, followers[len(lasting) :])
        assert newcomers.clean, newcomers
        assert all(part.running for part in (*stack.webs, *stack.workers))


async def test_a_worker_started_while_redis_is_full_works_afterwards(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        stack.worker.terminate()
        await stack.worker.ended(within=10)
        stack.workers.clear()
        asked = await visitor.ask(script(tokens=20, rate=50, seed=1))  # a full Redis takes no run
        refusing = asyncio.create_task(full(stack, 5))
        await stack.add_worker(ready=False)
        await refusing
        assert stack.worker.running
        follower = visitor.follower(asked.conversation)
        async with following([follower], within=30):
            pass
        report = await judge(visitor, [asked], [follower])
        assert report.clean, report
        assert (await visitor.run(asked.run))["status"] == "completed"


@pytest.mark.alone
async def test_cutting_the_subscription_repeatedly_loses_nothing(
    stacks: Stacks, judge: Judge, chance: random.Random
) -> None:
    rate, cuts = 50, 50
    async with stacks() as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=LONG, rate=rate, seed=1))
        followers = [visitor.follower(asked.conversation, cursor=asked.cursor) for _ in range(20)]
        async with following(followers, within=30):
            heard = 0
            for _ in range(cuts):
                heard += chance.randrange(5, 20)
                await wait_for_all(followers, delta(heard), within=30)
                await stack.valkey.cut_subscriptions()
            await wait_for_all(followers, delta(heard + rate), within=30)
            await visitor.cancel(asked.run)
        report = await judge(visitor, [asked], followers)
        assert report.clean, report
        late = lateness([follower.recording for follower in followers], rate)
        assert quantile(late, 0.95) <= 2.0
