"""A stream of another client's wire has an orderly end only when its run has ended.

Whatever else ends it breaks the connection, and the reader that comes back has the whole reply.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.support.dialect_stream import UNREADABLE, StreamRead, question, read_stream
from tests.support.nginx import nginx_before
from tests.support.ports import HOST
from tests.support.process import Process
from tests.support.pushpin_stack import PushpinStack
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = script(tokens=2000, rate=50)
SHORT = script(tokens=60, rate=40)
SETTINGS = {"STREAM_WRITE_TIMEOUT": "1", "ACCESS_CHECK_INTERVAL": "0.3", "STREAM_HEARTBEAT": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(proxied=True, also=SETTINGS) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(stack: Stack) -> Visitor:
    return await stack.visitor()


async def asked(visitor: Visitor, text: str, **also: object) -> tuple[str, StreamRead]:
    """Ask in a chat of its own. Returns its name, and what the POST's stream said."""
    chat = uuid4().hex
    body = question(text, chat=chat)
    return chat, await read_stream(visitor, "POST", "/api/chat", body=body, **also)  # type: ignore[arg-type]


async def stored_text(visitor: Visitor, chat: str) -> str:
    messages = (await visitor.http.get(f"/api/chat/{chat}/messages")).json()
    return "".join(part["text"] for part in messages[-1]["parts"] if part["type"] == "text")


async def check_whole(visitor: Visitor, chat: str) -> None:
    """Come back until the run has ended, and compare with what is stored."""
    for _ in range(100):
        read = await read_stream(visitor, "GET", f"/api/chat/{chat}/stream")
        assert read.complete == (read.data[-1:] == ["[DONE]"])
        if read.complete:
            assert read.text == await stored_text(visitor, chat)
            return
    raise AssertionError("the run did not end")


async def stopped(visitor: Visitor, chat: str) -> None:
    """End the run, whose reply nothing else needs."""
    assert (await visitor.http.post(f"/api/chat/{chat}/stop")).status_code == 204


async def test_a_complete_reply_ends_in_order(visitor: Visitor) -> None:
    chat, read = await asked(visitor, SHORT)
    assert (read.status, read.complete, read.types[-1]) == (200, True, "finish")
    assert read.text == await stored_text(visitor, chat)


async def test_a_stream_breaks_when_its_web_process_stops(stack: Stack) -> None:
    web = await stack.add_web()
    visitor = await stack.visitor(web)

    async def terminate() -> None:
        web.terminate()

    chat, read = await asked(visitor, SHORT, after_text=terminate)
    assert not read.complete
    await web.ended(within=10)
    assert "ASGI callable returned" not in web.log.read_text()
    await check_whole(visitor.at(stack.ports[stack.web.name]), chat)


async def test_a_stream_breaks_at_its_greatest_age(stack: Stack) -> None:
    stack.also["STREAM_MAX_AGE"] = "0.5"
    try:
        web = await stack.add_web()
    finally:
        del stack.also["STREAM_MAX_AGE"]
    visitor = await stack.visitor(web)
    chat, read = await asked(visitor, SHORT)
    assert not read.complete
    await check_whole(visitor.at(stack.ports[stack.web.name]), chat)
    web.kill()


async def test_a_stream_breaks_when_its_conversation_is_deleted(visitor: Visitor) -> None:
    async def delete() -> None:
        (newest,) = await visitor.conversations()
        await visitor.http.delete(f"/api/conversations/{newest['id']}/")

    chat, read = await asked(visitor, LONG, after_text=delete)
    assert not read.complete
    again = await read_stream(visitor, "GET", f"/api/chat/{chat}/stream")
    assert (again.status, again.data) == (204, [])


async def test_a_stream_breaks_when_access_is_revoked(stack: Stack, visitor: Visitor) -> None:
    name = f"u{uuid4().hex[:8]}"
    make = f"from django.contrib.auth.models import User; User.objects.create_user({name!r})"
    await stack.manage("shell", "-c", make)
    token = (await stack.manage("token", "create", name, "--name", "t")).split()[-1]
    reader = Visitor(HOST, visitor.port)
    reader.use_token(token)

    async def revoke() -> None:
        revoking = (
            "from streams.service_models import ApiToken; "
            "from django.db.models.functions import Now; "
            f"ApiToken.objects.filter(user__username={name!r}).update(revoked_at=Now())"
        )
        await stack.manage("shell", "-c", revoking)

    chat, read = await asked(reader, LONG, after_text=revoke)
    assert not read.complete
    again = await read_stream(reader, "GET", f"/api/chat/{chat}/stream")
    assert again.status == 401
    await reader.close()


async def test_a_stream_breaks_when_its_reader_stalls(stack: Stack, visitor: Visitor) -> None:
    chat = uuid4().hex
    body = json.dumps(question(script(tokens=60_000, seed=1), chat=chat)).encode()
    head = [
        "POST /api/chat HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-CSRFToken: {visitor.http.headers['X-CSRFToken']}",
        *(f"{name}: {value}" for name, value in visitor.credentials().items()),
    ]
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before the window is offered
    small.connect((HOST, visitor.port))
    reading, writing = await asyncio.open_connection(sock=small, limit=1024)
    try:
        writing.write("\r\n".join([*head, "", ""]).encode() + body)
        await stack.web.wait_for_log("is not read", within=60)
        with suppress(ConnectionResetError):
            received = await reading.read()
            assert not received.endswith(b"0\r\n\r\n")
    finally:
        writing.close()
    await check_whole(visitor, chat)


async def test_a_stream_goes_on_after_redis_was_away(stack: Stack, visitor: Visitor) -> None:
    async def cut() -> None:
        stack.web_redis.refuse()
        stack.web_redis.reset()
        await asyncio.sleep(1)  # the outage itself
        await stack.web_redis.accept()

    chat, read = await asked(visitor, SHORT, after_text=cut)
    assert read.complete
    assert read.text == await stored_text(visitor, chat)


async def test_a_request_is_accepted_while_redis_is_away(stack: Stack, visitor: Visitor) -> None:
    stack.web_redis.refuse()
    stack.web_redis.reset()
    chat = uuid4().hex
    body = question(SHORT, chat=chat)
    reading = asyncio.create_task(read_stream(visitor, "POST", "/api/chat", body=body))
    while not await visitor.conversations():
        await asyncio.sleep(0.05)
    await stack.web_redis.accept()
    read = await reading
    assert (read.status, read.complete) == (200, True)
    assert read.text == await stored_text(visitor, chat)


async def test_a_stream_ends_with_the_stored_text_though_redis_was_emptied(
    stack: Stack, visitor: Visitor
) -> None:
    async def empty() -> None:
        await stack.valkey.client.flushall()

    chat, read = await asked(visitor, SHORT, after_text=empty)
    if read.complete:
        assert read.text == await stored_text(visitor, chat)
    await check_whole(visitor, chat)


async def test_http_1_0_is_refused_before_anything_is_stored(visitor: Visitor) -> None:
    reading, writing = await asyncio.open_connection(HOST, visitor.port)
    body = json.dumps(question("Hello", chat="old")).encode()
    head = [
        "POST /api/chat HTTP/1.0",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-CSRFToken: {visitor.http.headers['X-CSRFToken']}",
        *(f"{name}: {value}" for name, value in visitor.credentials().items()),
    ]
    writing.write("\r\n".join([*head, "", ""]).encode() + body)
    assert b" 505 " in (await reading.read()).split(b"\r\n")[0]
    writing.close()
    assert await visitor.conversations() == []


async def breaks_with(web: Process, through: Visitor) -> str:
    """Check a whole stream, and one that breaks with its web process. Returns the latter's chat."""
    chat, whole = await asked(through, SHORT)
    assert (whole.complete, whole.text) == (True, await stored_text(through, chat))

    async def terminate() -> None:
        web.terminate()

    chat, read = await asked(through, SHORT, after_text=terminate)
    assert not read.complete or read.data[-1] == UNREADABLE
    return chat


async def test_a_stream_breaks_through_nginx(stack: Stack, tmp_path: Path) -> None:
    web = await stack.add_web()
    visitor = await stack.visitor(web)
    nginx, port = await nginx_before(stack.ports[web.name], tmp_path / "nginx")
    try:
        chat = await breaks_with(web, visitor.at(port))
    finally:
        nginx.kill()
    await check_whole(visitor.at(stack.ports[stack.web.name]), chat)


async def test_a_stream_passes_pushpin_unheld_and_breaks(stacks: Stacks) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(also=chosen) as stack, PushpinStack(stack, chosen) as pushpin:
        visitor = await stack.visitor(stack.web)
        chat = await breaks_with(stack.web, visitor.at(pushpin.port))
        other = await stack.add_web()
        await check_whole(visitor.at(stack.ports[other.name]), chat)
