"""The WebSocket when something fails: each close, and that the reader loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.support.checker import check
from tests.support.openai_client import User
from tests.support.script import expected
from tests.support.shell_code import END_SESSION, REVOKE_TOKENS
from tests.support.socket_client import (
    SocketClient,
    SocketFollower,
    opened,
    refusal,
    unread_socket,
)
from tests.support.stack import Stack
from tests.support.truths import truths
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = script(tokens=2000, rate=50)
QUICK = {"STREAM_WRITE_TIMEOUT": "1", "ACCESS_CHECK_INTERVAL": "0.3", "STREAM_HEARTBEAT": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(
        proxied=True, also={**QUICK, "RUN_LEASE": "4", "SWEEP_INTERVAL": "0.5"}
    ) as one:
        yield one


async def check_rest(
    visitor: Visitor, asked: AcceptedRun, reader: SocketFollower, *, lost: bool = False
) -> None:
    """Let the reader come back until it is idle, and compare what it received with what is stored.

    `lost`: history was lost, so resets are allowed.
    """
    async with asyncio.timeout(60):
        recording = await reader.follow()
    found = await truths(visitor, asked)
    report = check("socket", [recording], found, resets_allowed=lost)
    assert report.clean, report


async def ask_held(visitor: Visitor) -> AcceptedRun:
    """Ask for a reply of 1.5 seconds that waits in its middle until the test releases it."""
    return await visitor.ask(script(tokens=60, rate=40, hold_at=30, seed=uuid4().hex))


def from_start(visitor: Visitor, asked: AcceptedRun) -> AbstractAsyncContextManager[SocketClient]:
    """A socket that receives the run's events from the first on, however late it opens."""
    return opened(visitor, asked.conversation, f"?lastEventId={asked.cursor}")


def follower(visitor: Visitor, asked: AcceptedRun) -> SocketFollower:
    return SocketFollower(visitor, asked.conversation, port=visitor.port, cursor=asked.cursor)


async def test_a_socket_is_asked_to_reconnect_when_its_web_process_stops(stack: Stack) -> None:
    web = await stack.add_web(WEB_DRAIN="60")
    visitor = await stack.visitor(web)
    asked = await ask_held(visitor)
    async with from_start(visitor, asked) as client:
        await client.wait_for_type("text.delta")
        web.terminate()
        assert await client.closed() == (1012, "reconnect")
    assert [frame.type for frame in client.frames[-2:]] == ["retry", "heartbeat"]
    assert await web.ended(within=10) < 3
    assert "Traceback" not in web.log.read_text()
    stack.model.release(asked.script)
    other = visitor.at(stack.ports[stack.web.name])
    await check_rest(other, asked, follower(other, asked))


async def test_a_socket_is_asked_to_reconnect_at_its_greatest_age(stack: Stack) -> None:
    web = await stack.add_web(STREAM_MAX_AGE="0.5")
    visitor = await stack.visitor(web)
    asked = await ask_held(visitor)
    async with opened(visitor, asked.conversation) as client:
        assert await client.closed() == (1012, "reconnect")
    reader = follower(visitor, asked)
    reading = asyncio.create_task(check_rest(visitor, asked, reader))
    await until(lambda: len(reader.recording.connections) > 2, within=30, what="two more sockets")
    stack.model.release(asked.script)
    await reading
    web.kill()


async def test_a_socket_closes_when_its_conversation_is_deleted(visitor: Visitor) -> None:
    asked = await visitor.ask(LONG)
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("text.delta")
        await visitor.http.delete(f"/api/conversations/{asked.conversation}/")
        assert await client.closed() == (4404, "gone")
    error = client.frames[-1]
    assert (error.id, error.type, error.data["condition"]) == (None, "stream-error", "gone")
    assert (await refusal(visitor, asked.conversation)).data["problem"]["status"] == 404


async def test_a_socket_closes_when_its_session_ends(stack: Stack, visitor: Visitor) -> None:
    asked = await visitor.ask(LONG)
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("text.delta")
        await stack.manage("shell", "-c", END_SESSION.format(key=visitor.http.cookies["sessionid"]))
        assert await client.closed() == (4403, "forbidden")
    assert client.frames[-1].data["condition"] == "forbidden"


async def test_a_socket_closes_when_its_token_is_revoked(stack: Stack) -> None:
    reader = (await User.of(stack)).visitor
    asked = await reader.ask(LONG)
    async with opened(reader, asked.conversation) as client:
        await client.wait_for_type("text.delta")
        await stack.manage("shell", "-c", REVOKE_TOKENS)
        assert await client.closed() == (4403, "forbidden")
    assert (await refusal(reader, asked.conversation)).data["problem"]["status"] == 401
    await reader.close()


async def test_a_socket_breaks_when_its_reader_stalls(stack: Stack) -> None:
    web = await stack.add_web(STREAM_HEARTBEAT="60")  # no ping comes before the reader is found
    visitor = await stack.visitor(web)
    asked = await visitor.ask(script(tokens=60_000, seed=1))
    reading, writing = await unread_socket(visitor, asked.conversation)
    try:
        await web.wait_for_log("is not read", within=60)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                assert b"reconnect" not in await reading.read()  # no close frame
    finally:
        writing.close()
    assert "Traceback" not in web.log.read_text()
    await check_rest(visitor, asked, follower(visitor, asked))


async def test_a_socket_goes_on_after_redis_was_away(stack: Stack, visitor: Visitor) -> None:
    asked = await ask_held(visitor)
    reader = follower(visitor, asked)
    async with from_start(visitor, asked) as client:
        await client.wait_for_type("text.delta")
        stack.web_redis.refuse()
        stack.web_redis.reset()
        await client.wait_for(lambda one: one.type == "heartbeat" and one.data["head"] is None)
        answer = await client.ask("while Redis is away", when_busy="queue")
        assert answer.data["response"]["cursor"] is None
        await client.send("stop", "cancel", {"run": answer.data["response"]["run"]})
        await client.response("stop")
        await stack.web_redis.accept()
        stack.model.release(asked.script)
        await client.wait_for_type("run.completed")
    text = [one.data["text"] for one in client.frames if one.type == "text.delta"]
    assert "".join(text) == expected(asked.script)
    async with asyncio.timeout(60):
        await reader.follow()


async def test_a_socket_opens_while_redis_is_away(stack: Stack, visitor: Visitor) -> None:
    asked = await ask_held(visitor)
    stack.web_redis.refuse()
    stack.web_redis.reset()
    reader = follower(visitor, asked)
    reading = asyncio.create_task(check_rest(visitor, asked, reader))
    await until(
        lambda: any(one.block.event == "heartbeat" for one in reader.recording.received()),
        within=30,
        what="a heartbeat",
    )
    await stack.web_redis.accept()
    stack.model.release(asked.script)
    await reading


async def test_a_reader_whose_history_is_lost_is_reset(stack: Stack, visitor: Visitor) -> None:
    asked = await ask_held(visitor)
    reader = follower(visitor, asked)
    async with from_start(visitor, asked) as client:
        await client.wait_for_type("text.delta")
        await stack.valkey.client.flushall()
        stack.model.release(asked.script)
        await client.wait_for_type("run.completed")
    async with opened(visitor, asked.conversation, f"?lastEventId={asked.cursor}") as client:
        reset = await client.wait_for_type("stream-reset")
        assert (reset.id, reset.data["reason"]) == (None, "lost")
        assert (await client.receive()).type == "conversation.snapshot"
    await check_rest(visitor, asked, reader, lost=True)


async def test_a_second_attempt_follows_a_killed_worker(stack: Stack, visitor: Visitor) -> None:
    asked = await ask_held(visitor)
    async with from_start(visitor, asked) as client:
        await client.wait_for_type("text.delta")
        stack.worker.kill()
        await stack.add_worker()
        stack.workers.pop(0)
        await client.wait_for(
            lambda one: one.type == "run.started" and one.data["attempt"] == 2,
        )
        stack.model.release(asked.script)
        await client.wait_for_type("run.completed")
    await check_rest(visitor, asked, follower(visitor, asked))


async def test_a_frame_is_answered_before_its_process_stops(stack: Stack) -> None:
    web = await stack.add_web()
    visitor = await stack.visitor(web)
    asked = await ask_held(visitor)
    async with from_start(visitor, asked) as client:
        await client.wait_for_type("text.delta")
        stack.web_redis.stall()  # the request waits for Redis
        await client.send("late", "message", {"message": "late", "when_busy": "queue"})
        web.terminate()
        stack.web_redis.flow()
        closed = await client.closed()
    assert closed == (1012, "reconnect")
    assert "late" in [one.data["name"] for one in client.frames if one.type == "accepted"]
    await web.ended(within=10)
    stack.model.release(asked.script)
