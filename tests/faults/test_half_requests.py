"""Clients that send nothing, half a request, or too much: their connections are closed in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.faults.conftest import Stacks
from tests.support.many_followers import delta, following
from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 1  # seconds
TICK = 0.001  # seconds: uvloop counts whole milliseconds, and rounds down
WHOLE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/conversations/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks, also={"CONNECTION_TIMEOUT": str(PATIENCE)}) as stack:
        yield stack


async def answered(port: int, said: bytes, *, more: bytes = b"") -> tuple[bytes, float]:
    """The response until the service closes the connection, and the seconds that it took."""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(said)
        if more:
            await asyncio.sleep(PATIENCE / 2)
            writer.write(more)
        async with asyncio.timeout(20):
            return await reader.read(-1), time.monotonic() - begun
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the service has hung up on us
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("said", "more", "status"),
    [
        (b"", b"", b""),
        (WHOLE[:20], b"", b""),
        (WHOLE + WHOLE[:20], b"", b"200"),
        (WHOLE, b"\r\n", b"200"),
        (POST + b'Content-Length: 40\r\n\r\n{"mess', b"", b"408"),
        (POST + b"Content-Length: 99999999999\r\n\r\n", b"x", b"403"),
    ],
    ids=["nothing", "half a head", "a second half", "a blank line", "half a body", "too much"],
)
async def test_a_connection_without_a_request_is_closed_and_an_open_stream_is_not(
    service: Stack, said: bytes, more: bytes, status: bytes
) -> None:
    port = service.ports[service.web.name]
    visitor = await service.visitor()
    one = await visitor.ask(script(tokens=2, pause_at=1, pause=600))
    reader = visitor.follower(one.conversation, cursor=one.cursor)
    async with following([reader], within=30):
        silent_since = (await reader.wait_for(delta(0), within=20)).at
        words, seconds = await answered(port, said, more=more)
        await asyncio.sleep(max(0.0, silent_since + 2 * PATIENCE - time.monotonic()))
        await visitor.cancel(one.run)
    assert words[9:12] == status
    assert PATIENCE - TICK <= seconds < 3 * PATIENCE
    assert len(reader.recording.connections) == 2  # the second gets 204


async def test_a_head_that_arrives_in_two_pieces_is_answered(service: Stack) -> None:
    port = service.ports[service.web.name]
    words, _ = await answered(port, WHOLE[:20], more=WHOLE[20:])
    assert words.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("head", "status"),
    [(b"Content-Length: 99999999999\r\n", b"413"), (b"Transfer-Encoding: chunked\r\n", b"411")],
)
async def test_an_unwanted_body_is_refused_before_it_is_sent(
    service: Stack, head: bytes, status: bytes
) -> None:
    visitor = await service.visitor()
    credentials = visitor.write_credentials().items()
    who = "".join(f"{name}: {value}\r\n" for name, value in credentials)
    reader, writer = await asyncio.open_connection(HOST, service.ports[service.web.name])
    try:
        writer.write(POST + head + who.encode() + b"\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n"))[9:12] == status
    finally:
        await closed(writer)
