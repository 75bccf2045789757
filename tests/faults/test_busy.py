"""Messages while a reply is written: rejected, queued, or interrupting it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.faults.conftest import Judge, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, following, wait_for_all
from tests.support.sse_blocks import ENDINGS
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="module")
TALKS = 6  # conversations at once
MORE = 5  # messages that come while the first is being answered


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(webs=2, workers=2) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def both(stack: Stack) -> AsyncIterator[list[Visitor]]:
    """One visitor, at each of the web processes."""
    visitor = await stack.visitor()
    other = visitor.at(stack.ports[stack.webs[1].name])
    yield [visitor, other]
    await other.close()


async def begun(both: list[Visitor], *, tokens: int) -> tuple[list[AcceptedRun], list[Follower]]:
    """Conversations with a first reply at 50 tokens a second, each with two readers."""
    visitor = both[0]
    asked = [await visitor.ask(script(tokens=tokens, rate=50, seed=n)) for n in range(TALKS)]
    followers = [
        one.follower(talk.conversation, cursor=talk.cursor, cuts=cuts)
        for talk in asked
        for one, cuts in zip(both, ([], [4000, 9000]), strict=True)
    ]
    return asked, followers


async def test_queued_messages_are_answered_one_after_another_in_their_order(
    both: list[Visitor], judge: Judge, chance: random.Random
) -> None:
    visitor = both[0]
    # The first replies last until they are cancelled. Otherwise one could end before a request that
    # is to find its conversation busy.
    firsts, followers = await begun(both, tokens=5000)
    async with following(followers, within=90):
        await wait_for_all(followers, delta(3), within=30)
        for talk in firsts:
            body = {"message": "Too early?", "when_busy": "reject"}
            path = f"/api/conversations/{talk.conversation}/messages/"
            refused = await visitor.http.post(path, json=body)
            assert refused.status_code == 409
            assert refused.json()["code"] == "conversation_busy"
        queued = await asyncio.gather(
            *(
                chance.choice(both).send(
                    talk.conversation,
                    script(tokens=20, rate=50, seed=f"{talk.run}-{n}"),
                    when_busy="queue",
                )
                for n in range(MORE)
                for talk in firsts
            )
        )
        for talk in firsts:
            await visitor.cancel(talk.run)
    report = await judge(visitor, [*firsts, *queued], followers)
    assert report.clean, report
    for talk in firsts:
        await is_in_order(visitor, talk.conversation, followers, runs=1 + MORE)
    for those, status in ((firsts, "cancelled"), (queued, "completed")):
        runs = [await visitor.run(one.run) for one in those]
        assert {(run["status"], run["attempt"]) for run in runs} == {(status, 1)}


async def is_in_order(
    visitor: Visitor, conversation: str, followers: list[Follower], *, runs: int
) -> None:
    """Each reply is after its message, and started after the final event before it."""
    messages = (await visitor.conversation(conversation))["messages"]
    questions, replies = messages[::2], messages[1::2]
    assert [m["role"] for m in messages] == ["user", "assistant"] * runs
    assert [reply["reply_to"] for reply in replies] == [m["id"] for m in questions]
    story = [(what, m["run"]) for m in replies for what in ("begun", "ended")]
    for follower in followers:
        if follower.recording.conversation == conversation:
            assert list(turns_told(follower)) == story


def turns_told(follower: Follower) -> Iterator[tuple[str, str]]:
    """When each run started and ended, as this follower received it."""
    for heard in follower.recording.received():
        if heard.block.event == "run.started":
            yield "begun", heard.block.payload["run"]
        elif heard.block.event in ENDINGS:
            yield "ended", heard.block.payload["run"]


async def test_an_interrupting_message_ends_all_active_runs_and_is_answered(
    both: list[Visitor], judge: Judge
) -> None:
    visitor = both[0]
    asked, followers = await begun(both, tokens=5000)
    firsts = [*asked]
    ended: list[AcceptedRun] = [*asked]
    last: list[AcceptedRun] = []
    async with following(followers, within=60):
        await wait_for_all(followers, delta(20), within=30)
        for talk in firsts:
            waiting = script(tokens=10, seed=f"{talk.run}-waiting")
            ended.append(await visitor.send(talk.conversation, waiting, when_busy="queue"))
            instead = script(tokens=40, rate=40, seed=f"{talk.run}-instead")
            last.append(await visitor.send(talk.conversation, instead, when_busy="interrupt"))
    asked = [*ended, *last]
    report = await judge(visitor, asked, followers)
    assert report.clean, report
    assert [(await visitor.run(one.run))["status"] for one in last] == ["completed"] * TALKS
    assert {(await visitor.run(one.run))["status"] for one in ended} == {"cancelled"}
    for talk in firsts:
        kept = (await visitor.conversation(talk.conversation))["messages"][1]
        assert kept["role"] == "assistant"
        assert kept["content"], "what was said before the interruption is lost"


async def test_of_many_interruptions_at_once_the_last_is_answered(
    both: list[Visitor], judge: Judge
) -> None:
    visitor = both[0]
    asked, followers = await begun(both, tokens=5000)
    firsts = [*asked]
    async with following(followers, within=60):
        await wait_for_all(followers, delta(20), within=30)
        # Each reply lasts five seconds, so none is complete before the last of the requests.
        asked += await asyncio.gather(
            *(
                both[n % 2].send(
                    talk.conversation,
                    script(tokens=150, rate=30, seed=f"{talk.run}-{n}"),
                    when_busy="interrupt",
                )
                for n in range(MORE)
                for talk in firsts
            )
        )
    report = await judge(visitor, asked, followers)
    assert report.clean, report
    for talk in firsts:
        told = {
            one.message: (await visitor.run(one.run))["status"]
            for one in asked
            if one.conversation == talk.conversation
        }
        messages = (await visitor.conversation(talk.conversation))["messages"]
        turns = [told[m["id"]] for m in messages if m["role"] == "user"]
        assert turns == ["cancelled"] * MORE + ["completed"]
