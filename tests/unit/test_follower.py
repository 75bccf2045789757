"""The tests' follower reads like an EventSource, and records what came."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.follower import Follower
from tests.support.recording import Ended
from tests.unit.support.fake_stream import FIRST, HEAD, OVER, chunk, event_block, fake_stream

TIP = 5
PATIENCE = 10.0  # seconds


def follower(port: int, **wishes: object) -> Follower:
    return Follower("127.0.0.1", port, "c", headers={"Cookie": "a=b"}, **wishes)  # type: ignore[arg-type]


async def ids(reader: Follower) -> list[int | None]:
    recording = await asyncio.wait_for(reader.follow(), PATIENCE)
    return [heard.block.id for heard in recording.received() if heard.block.event]


async def test_it_receives_every_event_until_204() -> None:
    async with fake_stream(TIP) as (port, asked):
        reader = follower(port)
        assert await ids(reader) == [*range(1, TIP + 1)]
        assert reader.recording.whole
        assert [c.status for c in reader.recording.connections] == [200, 204]
        assert b"Cookie: a=b" in asked[0]
        assert b"Last-Event-ID" not in asked[0]
        assert b"Last-Event-ID: 5" in asked[1]


async def test_cut_at_every_byte_it_receives_each_event_once() -> None:
    async with fake_stream(2) as (port, _):
        for cut in range(1, len(FIRST + event_block(1) + event_block(2)) + 1):
            reader = follower(port, cuts=[cut])
            assert await ids(reader) == [1, 2], cut
            assert reader.recording.connections[0].ended is Ended.DROPPED


async def test_an_incomplete_last_event_is_kept_and_requested_again() -> None:
    def answer(cursor: int | None) -> bytes:
        if cursor is None:
            return HEAD + chunk(FIRST + event_block(1) + event_block(2)[:-1])
        return OVER if cursor == 2 else HEAD + chunk(event_block(2)) + b"0\r\n\r\n"

    async with fake_stream(2, answer=answer) as (port, _):
        reader = follower(port)
        assert await ids(reader) == [1, 2]
        first = reader.recording.connections[0]
        assert (first.ended, first.rest) == (Ended.BROKEN, event_block(2)[:-1])


async def test_its_first_cursor_can_be_in_the_query() -> None:
    async with fake_stream(TIP) as (port, asked):
        assert await ids(follower(port, cursor=3, cursor_in_query=True)) == [*range(4, TIP + 1)]
        assert b"lastEventId=3" in asked[0]


async def test_every_status_but_200_is_final() -> None:
    async with fake_stream(1, answer=lambda _: b"HTTP/1.1 503 X\r\n\r\n") as (port, asked):
        reader = follower(port)
        assert await ids(reader) == []
        assert [c.status for c in reader.recording.connections] == [503]
        assert not reader.recording.whole
        assert len(asked) == 1


async def test_it_retries_while_nothing_listens() -> None:
    async with fake_stream(TIP) as (port, _):
        pass
    reader = follower(port, retry_at_most=0.01)
    following = asyncio.create_task(reader.follow())
    while len(reader.recording.connections) < 3:
        await asyncio.sleep(0.01)
    reader.stop()
    recording = await asyncio.wait_for(following, PATIENCE)
    assert {c.ended for c in recording.connections[:-1]} == {Ended.UNANSWERED}


class Hasty(Follower):
    """Loses its first connection before that is open."""

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = await super()._open()
        if len(self.recording.connections) == 1:
            self.drop()
        return opened


async def test_a_connection_dropped_before_it_is_open_receives_nothing() -> None:
    async with fake_stream(TIP) as (port, asked):
        reader = Hasty("127.0.0.1", port, "c", headers={})
        assert await ids(reader) == [*range(1, TIP + 1)]
        first, *_ = reader.recording.connections
        assert (first.ended, first.status) == (Ended.DROPPED, 0)
        assert len(asked) == 2


async def test_a_slow_reader_receives_the_same() -> None:
    async with fake_stream(TIP) as (port, _):
        assert await ids(follower(port, portion=100, pause=0.001)) == [*range(1, TIP + 1)]


async def test_a_test_can_wait_for_an_event() -> None:
    async with fake_stream(TIP) as (port, _):
        reader = follower(port)
        following = asyncio.create_task(reader.follow())
        heard = await reader.wait_for(lambda h: h.block.id == TIP, within=PATIENCE)
        assert heard.block.payload == {"n": TIP}
        await asyncio.wait_for(following, PATIENCE)
        assert await reader.wait_for(lambda h: h.block.id == 1, within=PATIENCE)


async def test_waiting_for_an_event_that_never_comes_ends() -> None:
    async with fake_stream(TIP) as (port, _):
        reader = follower(port)
        following = asyncio.create_task(reader.follow())
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await reader.wait_for(lambda h: h.block.id == TIP + 1, within=PATIENCE)
        await following
