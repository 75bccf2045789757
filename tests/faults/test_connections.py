"""Lost connections: a reader receives every missed event once after it reconnects."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, following, pieces_in
from tests.support.openai_server import pieces
from tests.support.ports import HOST
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import Visitor, script


@pytest.mark.parametrize(("window", "token_bytes"), [("0.02", 7), ("0", 120)])
async def test_followers_that_drop_at_random_receive_everything_once(
    stacks: Stacks,
    judge: Judge,
    size: Size[int],
    chance: random.Random,
    window: str,
    token_bytes: int,
) -> None:
    """`token_bytes`: the least that a token takes on the wire, in an event with others or alone."""
    readers, drops, tokens = size(20, 100), size(15, 50), 1500
    async with stacks(also={"DELTA_WINDOW": window}) as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=tokens, rate=300, seed=1))
        followers = [
            visitor.follower(
                asked.conversation,
                cursor=asked.cursor if number % 2 else None,
                retry_at_most=chance.uniform(0, 0.1),
            )
            for number in range(readers)
        ]
        for follower in followers:
            follower.cuts = cuts_before_the_end(follower, drops, tokens, token_bytes, chance)
        async with following(followers, within=60):
            pass
        report = await judge(visitor, [asked], followers)
        assert report.clean, report
        assert report.connections >= readers * (drops + 1)


def cuts_before_the_end(
    follower: Follower, drops: int, tokens: int, token_bytes: int, chance: random.Random
) -> Iterator[int]:
    """Cuts at random, none so late that the rest of the reply has no bytes for the others."""
    for left in range(drops, 0, -1):
        texts = [h for h in follower.recording.received() if h.block.event == "text.delta"]
        heard = max(pieces_in(texts[-1])) + 1 if texts else 0
        yield chance.randrange(2 * (tokens - heard) * token_bytes // (left + 1))


@pytest.mark.long
@pytest.mark.timeout(900)  # a connection for each byte of the stream
async def test_a_stream_cut_at_every_byte_is_resumed_without_loss(
    stacks: Stacks, judge: Judge, size: Size[int]
) -> None:
    tokens = size(6, 56)
    lanes = 8  # at once; each has a proxy of its own to cut at its byte
    also = {"DELTA_WINDOW": "0"}  # a delta for each token
    async with stacks(also=also) as stack, AsyncExitStack() as proxies:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=tokens, seed=2))
        whole = visitor.follower(asked.conversation, cursor=0)
        async with following([whole], within=30):
            pass
        assert sum(1 for heard in whole.recording.received() if heard.block.id) == tokens + 4
        upstream = (HOST, visitor.port)
        length = await answer_length(whole)
        followers: list[Follower] = [whole]

        async def lane(number: int) -> None:
            proxy = await proxies.enter_async_context(Proxy(upstream))
            for cut in range(number, length, lanes):
                proxy.cut_next_answer_after(cut)
                follower = visitor.follower(
                    asked.conversation, port=proxy.port, cursor=0, retry_at_most=0
                )
                followers.append(follower)
                async with asyncio.timeout(30):
                    await follower.follow()

        await asyncio.gather(*(lane(number) for number in range(lanes)))
        report = await judge(visitor, [asked], followers)
        assert report.clean, report
        assert report.followers == length + 1


async def answer_length(follower: Follower) -> int:
    """The bytes of the whole answer that this follower got, from the status line on."""
    reader, writer = await asyncio.open_connection(*follower.address)
    writer.write(follower.request("0").replace(b"Host:", b"Connection: close\r\nHost:"))
    try:
        async with asyncio.timeout(30):
            return len(await reader.read(-1))
    finally:
        writer.close()


async def test_readers_at_any_moment_with_any_cursor_receive_the_rest_once(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    waves, readers, tokens, rate = size(1, 10), size(100, 200), 1200, 100
    async with stacks() as stack:
        visitor = await stack.visitor()
        for wave in range(waves):
            text = script(tokens=tokens, rate=rate, seed=wave)
            asked = await visitor.ask(text)
            leader = visitor.follower(asked.conversation, cursor=asked.cursor)
            followers = [leader]

            async def come(moment: int, leader: Follower, crowd: list[Follower]) -> None:
                await leader.wait_for(delta(moment), within=60)
                newcomer = arrival(visitor, leader, chance)
                crowd.append(newcomer)
                async with asyncio.timeout(60):
                    await newcomer.follow()

            async with following([leader], within=60):
                moments = [chance.randrange(len(pieces(text))) for _ in range(readers)]
                await asyncio.gather(*(come(m, leader, followers) for m in moments))
            report = await judge(visitor, [asked], followers)
            assert report.clean, report
            assert report.followers == readers + 1


def arrival(visitor: Visitor, leader: Follower, chance: random.Random) -> Follower:
    """A new reader: with no cursor, the first one, one in the middle, or the head."""
    ids = [heard.block.id for heard in leader.recording.received() if heard.block.id]
    cursor = chance.choice([None, 0, chance.choice(ids), ids[-1]])
    in_query = chance.random() < 0.5
    return visitor.follower(leader.recording.conversation, cursor=cursor, cursor_in_query=in_query)
