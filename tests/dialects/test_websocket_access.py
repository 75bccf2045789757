"""Who may open a WebSocket and send frames, and what a hostile client gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import jwt
import pytest
import pytest_asyncio

from tests.dialects.conftest import Stacks
from tests.integration.support.signed_tokens import claims_for
from tests.support.hostile_frames import CHARACTERS, ENDS, HOSTILE, STILL_SENDING
from tests.support.ports import HOST
from tests.support.shell_code import CREATE_USER, END_SESSION
from tests.support.socket_client import opened, refusal
from tests.support.stack import Stack
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHORT = script(tokens=3)
TRUSTED = "https://app.example.org"
KEY = "k" * 32
SETTINGS = {
    "MAX_STREAMS": "3",
    "MAX_MESSAGE_CHARS": str(CHARACTERS),
    "CONNECTION_TIMEOUT": "1",
    "ACCESS_CHECK_INTERVAL": "60",
    "CSRF_TRUSTED_ORIGINS": f"{TRUSTED},https://*.example.net",
    "STREAM_SIGNING_KEY": KEY,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks(also=SETTINGS) as one:
        await one.manage("shell", "-c", CREATE_USER)
        yield one
        assert "Traceback" not in one.web.log.read_text()


def signed(owner: str, *, scope: str) -> str:
    return jwt.encode(claims_for(owner, scope=scope), KEY, "HS256")


async def api_token(stack: Stack, scopes: str) -> str:
    words = ("token", "create", "ann", "--name", uuid4().hex, "--scopes", *scopes.split())
    return (await stack.manage(*words)).split()[-1]


async def test_only_the_owner_may_open_a_socket(stack: Stack, visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    other = await stack.visitor()
    await other.ask(SHORT)
    token = {"Authorization": f"Bearer {await api_token(stack, 'read write')}"}
    strangers = [
        (other.credentials(), 404),
        ({}, 404),
        (token, 404),
        ({"Authorization": "Bearer nothing"}, 401),
        ({"Cookie": f"sessionid={'x' * 32}"}, 404),
    ]
    for headers, status in strangers:
        for id in (asked.conversation, str(uuid4())):
            refused = await refusal(visitor, id, headers=headers)
            assert refused.data["problem"]["status"] == status
    async with opened(visitor, asked.conversation) as client:
        assert (await client.wait_for_type("conversation.snapshot")).data["messages"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        f"https://{HOST}",
        "https://app.example.org.evil.example",
        "http://app.example.org",
    ],
)
async def test_a_session_of_another_origin_is_refused(visitor: Visitor, origin: str) -> None:
    asked = await visitor.ask(SHORT)
    refused = await refusal(visitor, asked.conversation, origin=origin)
    assert refused.data["problem"]["code"] == "csrf_failed"


async def test_a_session_without_an_origin_is_refused(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    refused = await refusal(visitor, asked.conversation, origin=None)
    assert refused.data["problem"]["code"] == "csrf_failed"


@pytest.mark.parametrize("origin", [TRUSTED, "https://shop.example.net"])
async def test_a_session_of_a_trusted_origin_may_ask(visitor: Visitor, origin: str) -> None:
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation, origin=origin) as client:
        answer = await client.ask(SHORT, when_busy="queue")
    assert answer.type == "accepted"


async def test_the_origin_of_a_token_is_not_looked_at(stack: Stack) -> None:
    reader = Visitor(HOST, stack.ports[stack.web.name])
    reader.use_token(await api_token(stack, "read write"))
    asked = await reader.ask(SHORT)
    for origin in ("https://evil.example", None):
        async with opened(reader, asked.conversation, origin=origin) as client:
            assert (await client.ask(SHORT, when_busy="queue")).type == "accepted"
    await reader.close()


async def test_each_frame_needs_the_scope_to_write(stack: Stack) -> None:
    writer, reader = (Visitor(HOST, stack.ports[stack.web.name]) for _ in range(2))
    writer.use_token(await api_token(stack, "read write"))
    reader.use_token(await api_token(stack, "read"))
    asked = await writer.ask(SHORT)
    async with opened(reader, asked.conversation) as client:
        await client.wait_for_type("conversation.snapshot")
        assert (await client.ask(SHORT)).data["problem"]["code"] == "scope_missing"
        await client.send("c", "cancel", {"run": asked.run})
        assert (await client.response("c")).data["problem"]["code"] == "scope_missing"
    writer.use_token(await api_token(stack, "write"))
    refused = await refusal(writer, asked.conversation)
    assert refused.data["problem"]["code"] == "scope_missing"
    await writer.close()
    await reader.close()


async def test_a_signed_token_may_be_in_the_query(stack: Stack) -> None:
    owner = Visitor(HOST, stack.ports[stack.web.name])
    owner.use_token(signed("external:7", scope="read write"))
    asked = await owner.ask(SHORT)
    for scope, type in (("read write", "accepted"), ("read", "refused")):
        token = signed("external:7", scope=scope)
        query = f"?token={token}"
        async with opened(owner, asked.conversation, query, headers={}, origin=None) as client:
            assert (await client.ask(SHORT, when_busy="queue")).type == type
    other = signed("external:8", scope="read")
    refused = await refusal(owner, asked.conversation, f"?token={other}", headers={})
    assert refused.data["problem"]["status"] == 404
    await owner.close()


async def test_a_frame_of_a_session_that_has_ended_is_refused(
    stack: Stack, visitor: Visitor
) -> None:
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("conversation.snapshot")
        key = visitor.http.cookies["sessionid"]
        await stack.manage("shell", "-c", END_SESSION.format(key=key))
        # The socket is open until the next check. The frame is a new visitor's.
        assert (await client.ask(SHORT)).data["problem"]["code"] == "not_found"


async def test_streams_and_sockets_are_counted_together(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    events = f"/api/conversations/{asked.conversation}/events/"
    async with (
        opened(visitor, asked.conversation),
        opened(visitor, asked.conversation),
        visitor.http.stream("GET", events) as stream,
    ):
        assert stream.status_code == 200
        refused = await refusal(visitor, asked.conversation)
        assert refused.data["problem"]["code"] == "too_many_streams"
        assert refused.data["retry_after"] == 10
        assert (await visitor.http.get(events)).status_code == 429
    async with asyncio.timeout(10):
        while (await visitor.http.head(events)).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("query", "code"), [("?lastEventId=x", "bad_cursor"), ("?until=never", "bad_request")]
)
async def test_a_bad_query_is_refused(visitor: Visitor, query: str, code: str) -> None:
    asked = await visitor.ask(SHORT)
    refused = await refusal(visitor, asked.conversation, query)
    assert refused.data["problem"]["code"] == code


async def test_a_hostile_frame_gets_a_refusal_and_the_socket_goes_on(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("conversation.snapshot")
        for frame, status, name in HOSTILE:
            await client.connection.send(frame)
            refused = await client.response(name)
            assert refused.type == "refused", frame[:100]
            assert refused.data["problem"]["status"] == status, frame[:100]
        assert (await client.ask(SHORT, when_busy="queue")).type == "accepted"
    assert len((await visitor.conversation(asked.conversation))["messages"]) <= 4


@pytest.mark.parametrize("name", ENDS)
async def test_a_client_that_breaks_the_bounds_is_disconnected(visitor: Visitor, name: str) -> None:
    asked = await visitor.ask(SHORT)
    data, code = ENDS[name]
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("conversation.snapshot")
        client.connection.transport.write(data)
        ended, _ = await client.closed()
    assert ended in ((code, 1006) if name in STILL_SENDING else (code,))
    async with opened(visitor, asked.conversation) as client:
        assert (await client.ask(SHORT, when_busy="queue")).type == "accepted"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\n",
        b"X: x\r\n" * 200,
        b"X: " + b"x" * 9000 + b"\r\n",
        b"Sec-WebSocket-Version: 8\r\n",
    ],
    ids=["a body", "many fields", "a long field", "an old version"],
)
async def test_a_handshake_that_cannot_be_read_is_refused(visitor: Visitor, fields: bytes) -> None:
    reading, writing = await asyncio.open_connection(HOST, visitor.port)
    version = b"" if b"Version" in fields else b"Sec-WebSocket-Version: 13\r\n"
    writing.write(
        b"GET /api/conversations/%b/socket/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b%b\r\n"
        % (str(uuid4()).encode(), version, fields)
    )
    async with asyncio.timeout(20):
        head = await reading.read()
    assert head.split(b" ")[1] in (b"400", b"426")
    writing.close()
