"""Stop stops: at any token, from anywhere, at once, and only what it was meant for."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, final_event, following, quantile
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

HEARD_WITHIN = 1.0  # seconds, p95, until readers receive it
CLOSED_WITHIN = 2.0  # seconds until the model's request is closed
TOKENS = 300


async def stop_at_random(
    visitor: Visitor, asked: AcceptedRun, follower: Follower, chance: random.Random
) -> float:
    """Seconds from the cancel until the reader received it."""
    await follower.wait_for(delta(chance.randrange(TOKENS // 2)), within=60)
    stopped_at = time.monotonic()
    run = await visitor.cancel(asked.run)
    assert run["status"] == "cancelled"
    heard = await follower.wait_for(final_event(asked.run), within=30)
    assert (await visitor.cancel(asked.run))["status"] == "cancelled"
    return heard.at - stopped_at


async def requests_closed(stack: Stack, count: int) -> None:
    """Wait until the model has seen so many of its requests closed by their client."""
    await until(
        lambda: len(stack.model.stats()["closed_by_client"]) >= count,
        within=CLOSED_WITHIN,
        what="the model's requests closed",
    )


@pytest.mark.alone
@pytest.mark.parametrize("window", ["0", "0.3"])  # with each token an event, and with several
async def test_a_reply_stops_at_any_token(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, window: str
) -> None:
    async with stacks(also={"DELTA_WINDOW": window}) as stack:
        visitor = await stack.visitor()
        for wave in range(size(1, 6)):
            asked = [
                await visitor.ask(script(tokens=TOKENS, rate=15, seed=f"{wave}-{n}"))
                for n in range(50)
            ]
            followers = [visitor.follower(one.conversation) for one in asked]
            closed = len(stack.model.stats()["closed_by_client"])
            async with following(followers, within=30):
                took = await asyncio.gather(
                    *(
                        stop_at_random(visitor, one, follower, chance)
                        for one, follower in zip(asked, followers, strict=True)
                    )
                )
            await requests_closed(stack, closed + len(asked))
            report = await judge(visitor, asked, followers)
            assert report.clean, report
            assert quantile(took, 0.95) <= HEARD_WITHIN
            runs = [await visitor.run(one.run) for one in asked]
            assert {run["status"] for run in runs} == {"cancelled"}
            assert all(run["usage"]["output_tokens"] > 0 for run in runs)


@pytest.mark.alone
async def test_a_reply_stops_while_the_model_is_silent(stacks: Stacks, judge: Judge) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        silent = script(tokens=20, first=60, seed=1)
        pausing = script(tokens=20, pause_at=5, pause=60, seed=2)
        asked = [await visitor.ask(silent), await visitor.ask(pausing)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=30):
            await followers[0].wait_for(lambda h: h.block.event == "run.started", within=30)
            await followers[1].wait_for(delta(4), within=30)
            stopped_at = time.monotonic()
            for one in asked:
                await visitor.cancel(one.run)
        report = await judge(visitor, asked, followers)
        assert report.clean, report
        took = [(await f.wait_for(final_event(), within=1)).at - stopped_at for f in followers]
        assert max(took) <= HEARD_WITHIN + 0.5
        await requests_closed(stack, 2)


async def test_a_reply_stops_before_any_worker_has_begun_it(stacks: Stacks, judge: Judge) -> None:
    async with stacks(workers=0) as stack:
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=20, seed=n)) for n in range(5)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=30):
            for one in asked:
                await visitor.cancel(one.run)
        again = [await visitor.send(one.conversation, script(tokens=20, seed="x")) for one in asked]
        later = [visitor.follower(one.conversation, cursor=one.cursor) for one in again]
        async with following(later, within=60):
            await stack.add_worker(ready=False)
        report = await judge(visitor, [*asked, *again], later)
        assert report.clean, report
        assert (await visitor.run(asked[0].run))["status"] == "cancelled"
        assert (await visitor.cancel(again[0].run))["status"] == "completed"
        assert stack.model.stats()["requests"] == len(again)


async def test_a_late_cancel_does_not_hurt_a_newer_run(stacks: Stacks, judge: Judge) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        first = await visitor.ask(script(tokens=5, seed=1))
        async with following([visitor.follower(first.conversation)], within=30):
            pass
        second = await visitor.send(first.conversation, script(tokens=40, rate=40, seed=2))
        reader = visitor.follower(second.conversation, cursor=second.cursor)
        async with following([reader], within=30):
            await reader.wait_for(delta(5, second.run), within=30)
            await visitor.cancel(first.run)
        report = await judge(visitor, [first, second], [reader])
        assert report.clean, report
        assert (await visitor.run(second.run))["status"] == "completed"
