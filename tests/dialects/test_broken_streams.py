"""A stream of another client's wire has an orderly end only when its run has ended.

Whatever else ends it breaks the connection, and the reader that comes back has the whole reply.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.support.all_wires import (
    LONG,
    SHORT,
    asked,
    asked_in_all,
    breaks_with,
    check_cancelled,
    check_complete,
    check_whole,
    complete,
)
from tests.support.dialect_stream import WIRES, StreamRead, Wire, question, read_stream
from tests.support.nginx import nginx_before
from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.pushpin_stack import PushpinStack
from tests.support.raw_requests import request, sent_without_reading
from tests.support.shell_code import REVOKE_TOKENS
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
STALLED = "is not read"  # in the log
in_each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
WISHES = {
    "proxied": True,
    "also": {"STREAM_WRITE_TIMEOUT": "1", "ACCESS_CHECK_INTERVAL": "0.3", "STREAM_HEARTBEAT": "1"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(**WISHES) as one:
        yield one


async def test_a_complete_reply_ends_in_order(visitor: Visitor) -> None:
    await check_complete(visitor, {wire.name: await asked(visitor, wire, SHORT) for wire in WIRES})


async def test_a_stream_breaks_when_its_web_process_stops(stack: Stack) -> None:
    web = await stack.add_web()
    visitor = await stack.visitor(web)

    async def terminate(_: list[StreamRead]) -> None:
        web.terminate()

    reads = await asked_in_all(visitor, LONG, terminate)
    assert complete(reads) == []
    await web.ended(within=10)
    assert "ASGI callable returned" not in web.log.read_text()
    await check_cancelled(visitor.at(stack.ports[stack.web.name]), reads)


async def test_a_stream_breaks_at_its_greatest_age(stack: Stack) -> None:
    web = await stack.add_web(STREAM_MAX_AGE="0.5")
    visitor = await stack.visitor(web)
    reads = {wire.name: await asked(visitor, wire, LONG) for wire in WIRES}
    assert complete(reads) == []
    await check_cancelled(visitor.at(stack.ports[stack.web.name]), reads)
    web.kill()


async def test_a_stream_breaks_when_its_conversation_is_deleted(visitor: Visitor) -> None:
    async def delete(begun: list[StreamRead]) -> None:
        for read in begun:
            conversation = (await visitor.run(read.run))["conversation"]
            await visitor.http.delete(f"/api/conversations/{conversation}/")

    reads = await asked_in_all(visitor, LONG, delete)
    assert complete(reads) == []
    for wire in WIRES:
        again = await read_stream(visitor, "GET", wire.back.format(run=reads[wire.name].run))
        assert (again.status, again.data) == (wire.deleted, [])


async def test_a_stream_breaks_when_access_is_revoked(stack: Stack) -> None:
    reader = (await User.of(stack)).visitor

    async def revoke(_: list[StreamRead]) -> None:
        await stack.manage("shell", "-c", REVOKE_TOKENS)

    reads = await asked_in_all(reader, LONG, revoke)
    assert complete(reads) == []
    for wire in WIRES:
        again = await read_stream(reader, "GET", wire.back.format(run=reads[wire.name].run))
        assert again.status == 401
    await reader.close()


@in_each_wire
async def test_a_stream_breaks_when_its_reader_stalls(
    stack: Stack, visitor: Visitor, wire: Wire
) -> None:
    body = json.dumps(wire.body(script(tokens=60_000, seed=wire.name))).encode()
    asking = request(visitor, f"POST {wire.path} HTTP/1.1", "Host: localhost", body=body)
    reading, writing = await sent_without_reading(visitor.port, asking)
    stalled = stack.web.log.read_text().count(STALLED)
    try:
        await reading.readuntil(b"data: ")
        first = StreamRead(status=200, data=[(await reading.readline()).decode()])
        await until(
            lambda: stack.web.log.read_text().count(STALLED) > stalled, within=60, what="a stall"
        )
        with suppress(ConnectionResetError):
            received = await reading.read()
            assert not received.endswith(b"0\r\n\r\n")
    finally:
        writing.close()
    await check_whole(visitor, wire, first)


async def test_a_stream_goes_on_after_redis_was_away(stack: Stack, visitor: Visitor) -> None:
    async def cut(_: list[StreamRead]) -> None:
        stack.web_redis.refuse()
        stack.web_redis.reset()
        await asyncio.sleep(1)  # the outage itself
        await stack.web_redis.accept()

    reads = await asked_in_all(visitor, SHORT, cut)
    await check_complete(visitor, reads)


async def test_a_request_is_accepted_while_redis_is_away(stack: Stack, visitor: Visitor) -> None:
    stack.web_redis.refuse()
    stack.web_redis.reset()
    reading = [asyncio.create_task(asked(visitor, wire, SHORT)) for wire in WIRES]
    await asyncio.sleep(1)  # the outage itself
    assert not any(one.done() for one in reading)
    await stack.web_redis.accept()
    reads = await asyncio.gather(*reading)
    await check_complete(visitor, {one.name: read for one, read in zip(WIRES, reads, strict=True)})


async def test_a_stream_ends_with_the_stored_text_though_redis_was_emptied(
    stack: Stack, visitor: Visitor
) -> None:
    async def empty(_: list[StreamRead]) -> None:
        await stack.valkey.client.flushall()

    reads = await asked_in_all(visitor, SHORT, empty)
    ended = {name: one for name, one in reads.items() if one.complete and not one.takes_back}
    await check_complete(visitor, ended)
    for wire in WIRES:
        await check_whole(visitor, wire, reads[wire.name])


async def test_http_1_0_is_refused_before_anything_is_stored(visitor: Visitor) -> None:
    body = json.dumps(question("Hello", chat="old")).encode()
    reading, writing = await asyncio.open_connection(HOST, visitor.port)
    writing.write(request(visitor, "POST /api/chat HTTP/1.0", "Host: localhost", body=body))
    assert b" 505 " in (await reading.read()).split(b"\r\n")[0]
    writing.close()
    assert await visitor.conversations() == []


async def test_a_stream_breaks_through_nginx(stack: Stack, tmp_path: Path) -> None:
    web = await stack.add_web()
    visitor = await stack.visitor(web)
    nginx, port = await nginx_before(stack.ports[web.name], tmp_path / "nginx")
    try:
        broken = await breaks_with(web, visitor.at(port))
    finally:
        nginx.kill()
    await check_cancelled(visitor.at(stack.ports[stack.web.name]), broken)


async def check_leaving(visitor: Visitor) -> None:
    """A reader of Chat Completions that leaves ends its run, also through what is in between."""
    left: list[str] = []

    async def leave(read: StreamRead) -> None:
        left.append(read.run)
        raise Left

    (wire,) = (one for one in WIRES if one.name == "chat-completions")
    with suppress(Left):
        await asked(visitor, wire, LONG, after_text=leave)
    async with asyncio.timeout(30):
        while (await visitor.run(left[0]))["status"] != "cancelled":
            await asyncio.sleep(0.1)


class Left(Exception):
    """The reader closed its connection."""


async def test_a_stream_passes_pushpin_unheld_and_breaks(stacks: Stacks) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(also=chosen) as stack, PushpinStack(stack, chosen) as pushpin:
        visitor = await stack.visitor(stack.web)
        await check_leaving(visitor.at(pushpin.port))
        broken = await breaks_with(stack.web, visitor.at(pushpin.port))
        other = await stack.add_web()
        await check_cancelled(visitor.at(stack.ports[other.name]), broken)
