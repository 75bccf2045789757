"""A client's connection to the web process's HTTP server, with a small application behind it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from streams.http.request_limits import HEAD
from tests.integration.support.serving import serving

HEADERS = b"Host: a\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"
WITHIN = 30.0  # seconds, on a busy machine


async def application(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> None:
    """Answers 202 with what it was asked: method, path, body, and the names of the fields."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = [name.decode() for name, _ in scope["headers"]]
    said = json.dumps([scope["method"], scope["path"], body.decode(), names]).encode()
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(application) as port:
        yield port


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WITHIN):
            yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):  # the server has closed it
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The next answer's status and what it says."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), json.loads(await reader.readexactly(length))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """The status of what the server says until it closes: none where it resets unread bytes."""
    with suppress(OSError):
        return (await reader.read())[9:12]
    return b""


def post(*fields: bytes, body: bytes = b"the body") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST /asked HTTP/1.1\r\n" + HEADERS + b"".join(fields) + length + b"\r\n" + body


@pytest.mark.parametrize("fields", [H2C, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n"])
@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["by byte", "by seven", "at once"])
async def test_an_unsupported_upgrade_is_ignored_and_the_body_kept(
    port: int, fields: bytes, size: int
) -> None:
    said = post(fields) + post(fields, body=b"") + post()  # what follows is not taken for a body
    async with connected(port) as (reader, writer):
        for place in range(0, len(said), size):
            writer.write(said[place : place + size])
            await writer.drain()
        answers = [await answer(reader) for _ in range(3)]
    assert [(status, told[:3]) for status, told in answers] == [
        (202, ["POST", "/asked", "the body"]),
        (202, ["POST", "/asked", ""]),
        (202, ["POST", "/asked", "the body"]),
    ]
    assert not any("upgrade" in told[3] for _, told in answers)


async def test_a_chunked_body_with_an_upgrade_is_kept(port: int) -> None:
    chunks = b"3\r\nthe\r\n5\r\n body\r\n0\r\n\r\n"
    head = b"POST /asked HTTP/1.1\r\n" + HEADERS + H2C + b"Transfer-Encoding: chunked\r\n\r\n"
    async with connected(port) as (reader, writer):
        writer.write(head + chunks + post())
        answers = [await answer(reader) for _ in range(2)]
    assert [(status, told[2]) for status, told in answers] == [(202, "the body")] * 2


async def test_the_body_of_an_upgrade_is_never_parsed_as_a_request(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(post(H2C, body=b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
        writer.write(post())
        answers = [await answer(reader) for _ in range(2)]
    assert [told[1] for _, told in answers] == ["/asked", "/asked"]


async def test_a_request_that_asks_for_a_tunnel_is_refused(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"CONNECT a:443 HTTP/1.1\r\n" + HEADERS + b"\r\n")
        status, _ = await answer(reader)
        assert (status, await reader.read()) == (400, b"")


ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x" * 1000),
    "a header's name": (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"x" * 1000),
    "a request line": (b"GET /", b"x" * 1000),
    "short headers": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a:b\r\n" * 200),
    "blank lines": (b"", b"\r\n" * 500),
    "a header of a head that asks to upgrade": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nX: ",
        b"x" * 1000,
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("at_once", [1, 300], ids=["piece by piece", "many at once"])
async def test_a_head_without_an_end_is_refused(port: int, name: str, at_once: int) -> None:
    begin, more = ENDLESS[name]
    async with connected(port) as (reader, writer):
        writer.write(begin)
        sent = 0
        with suppress(OSError):
            while not reader.at_eof() and sent < 100 * HEAD:
                writer.write(more * at_once)
                sent += len(more) * at_once
                await writer.drain()
                await asyncio.sleep(0)
        said = await rest(reader)
    assert sent < 100 * HEAD
    assert said in (b"", b"431")


async def test_a_head_that_is_too_large_gets_431(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
    async with connected(port) as (reader, writer):
        writer.write(head % (b"x" * (HEAD - 100)))
        status, _ = await answer(reader)
        assert status == 202
        writer.write(head % (b"x" * HEAD))
        status, problem = await answer(reader)
        assert (status, problem["code"]) == (431, "head_too_large")
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "more", [b"X: " + b"x" * 200_000, b"X: x\r\n" * 40_000], ids=["one", "many"]
)
async def test_trailers_are_bounded(port: int, more: bytes) -> None:
    begun = b"POST /asked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    async with connected(port) as (reader, writer):
        writer.write(begun + more)
        assert await rest(reader) in (b"", b"431")


async def test_a_trailer_is_not_a_header(port: int) -> None:
    body = b"1\r\na\r\n0\r\nX-Forwarded-For: b\r\n\r\n"
    async with connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        _, told = await answer(reader)
    assert told[3] == ["host", "transfer-encoding"]


async def test_a_long_body_does_not_count_as_head(port: int) -> None:
    body = b"x" * 300_000
    async with connected(port) as (reader, writer):
        writer.write(post(body=body) + post())
        answers = [await answer(reader) for _ in range(2)]
    assert [told[2] for _, told in answers] == [body.decode(), "the body"]


async def test_a_head_that_arrives_slowly_is_refused_in_time(port: int, settings: Any) -> None:
    settings.CONNECTION_TIMEOUT = 1
    async with connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        with suppress(OSError):
            while not reader.at_eof():  # for as long as the test's patience lasts
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
