"""An accepted POST is never lost, whatever fails at that moment."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import following
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import POLL_INTERVAL

ACCEPTED_WITHIN = 2.0  # seconds
AT_ONCE = 5  # messages that one kill hits


@pytest.mark.alone
async def test_posts_while_redis_is_down_are_accepted_and_run_once(
    stacks: Stacks, judge: Judge, size: Size[float]
) -> None:
    away = size(12, 30)  # seconds
    async with stacks() as stack:
        visitor = await stack.visitor()
        stack.valkey.kill()
        down_at = time.monotonic()
        asked = [await visitor.ask(script(tokens=20, seed=n)) for n in range(25)]
        asked += await asyncio.gather(
            *(visitor.ask(script(tokens=20, seed=n)) for n in range(25, 50))
        )
        assert max(one.took for one in asked) <= ACCEPTED_WITHIN
        assert {one.cursor for one in asked} == {None}
        before = stack.model.stats()["requests"]
        followers = [visitor.follower(one.conversation) for one in asked]
        async with following(followers, within=60):
            await asyncio.sleep(max(0.0, down_at + away - time.monotonic()))
            stack.valkey.start()
            await stack.valkey.answers()
            back = time.monotonic()
        report = await judge(visitor, asked, followers, broken_at=[back])
        assert report.clean, report
        runs = [await visitor.run(one.run) for one in asked]
        assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 1)}
        assert stack.model.stats()["requests"] - before == len(asked)


@pytest.mark.alone
async def test_posts_while_redis_does_not_answer_are_accepted_in_time(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks(proxied=True) as stack:
        visitor = await stack.visitor()
        stack.web_redis.stall()
        asked = [await visitor.ask(script(tokens=20, seed=n)) for n in range(3)]
        asked += await asyncio.gather(
            *(visitor.ask(script(tokens=20, seed=n)) for n in range(3, 10))
        )
        assert max(one.took for one in asked) <= ACCEPTED_WITHIN
        followers = [visitor.follower(one.conversation) for one in asked]
        async with following(followers, within=60):
            stack.web_redis.reset()
            stack.web_redis.flow()
        report = await judge(visitor, asked, followers)
        assert report.clean, report


async def test_a_web_process_killed_between_commit_and_dispatch_loses_no_message(
    stacks: Stacks, judge: Judge, size: Size[int]
) -> None:
    count = size(20, 100)
    # Directly, because it counts the responses of Redis to one web process.
    async with stacks(webs=2, proxied=True, pushpin=False) as stack:
        visitor = await stack.visitor()
        witness = visitor.at(stack.ports[stack.webs[1].name])
        kept = [(await visitor.ask(script(tokens=20, seed="first"))).conversation]
        hits = 0
        for number in range(count):
            if hits >= count:
                break
            # Connections to Redis that are open already: the next answers are to the POSTs.
            await asyncio.gather(*(visitor.conversation(kept[0]) for _ in range(AT_ONCE)))
            stack.web_redis.stall_after_answers(AT_ONCE)  # before any dispatch
            posts = [
                asyncio.create_task(visitor.ask(script(tokens=20, rate=50, seed=f"{number}-{n}")))
                for n in range(AT_ONCE)
            ]
            kept += await committed(witness, kept)
            stack.web.kill()
            answers = await asyncio.gather(*posts, return_exceptions=True)
            hits += sum(isinstance(answer, httpx.HTTPError) for answer in answers)
            stack.web_redis.reset()
            stack.web_redis.flow()
            stack.web.start()
            await stack.ready(stack.web)
        assert hits >= count, "the kills came too late, and this has shown nothing"
        followers = [witness.follower(conversation) for conversation in kept]
        async with following(followers, within=60):
            pass
        asked = [one for conversation in kept for one in await found(witness, conversation)]
        assert len(asked) == len(kept)
        report = await judge(witness, asked, followers)
        assert report.clean, report
        runs = [await witness.run(one.run) for one in asked]
        assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 1)}
        await witness.close()


async def committed(witness: Visitor, known: list[str]) -> list[str]:
    """The conversations that have come into the database since, as soon as all stand there."""
    async with asyncio.timeout(ACCEPTED_WITHIN):
        while True:
            listed = [conversation["id"] for conversation in await witness.conversations()]
            fresh = [id for id in listed if id not in known]
            if len(fresh) == AT_ONCE:
                return fresh
            await asyncio.sleep(POLL_INTERVAL)


async def found(witness: Visitor, conversation: str) -> list[AcceptedRun]:
    """The runs of a conversation whose 202 response was lost."""
    snapshot = await witness.conversation(conversation)
    texts = {m["id"]: m["content"] for m in snapshot["messages"]}
    return [
        AcceptedRun(
            conversation=conversation,
            message=reply["reply_to"],
            run=reply["run"],
            cursor=None,
            events="",
            script=texts[reply["reply_to"]],
            took=0,
        )
        for reply in snapshot["messages"]
        if reply["role"] == "assistant"
    ]
