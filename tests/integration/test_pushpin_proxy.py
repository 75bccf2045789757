"""The proxy between Pushpin and the web processes, in front of an origin that fails on purpose."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from config.pushpin import proxy
from tests.support.ports import HOST, free_port
from tests.support.sse_blocks import Block, Splitter

STREAM = "/api/conversations/5f0cb6f0-7e0e-4b36-8a5f-2c7d3a3b5a11/events/?until=idle"
MESSAGES = "/api/conversations/5f0cb6f0-7e0e-4b36-8a5f-2c7d3a3b5a11/messages/"
Asked = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(*portions: bytes) -> Asked:
    """An origin that says this to every request, and closes the connection."""

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(portions)
        await writer.drain()
        writer.close()

    return asked


@asynccontextmanager
async def origin(asked: Asked, settings: Any) -> AsyncIterator[None]:
    server = await asyncio.start_server(asked, HOST, 0)
    settings.PUSHPIN_ORIGIN = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield


@asynccontextmanager
async def visitor() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the proxy, which is started for the origin in the settings."""
    sock = socket.create_server((HOST, 0))
    serving = asyncio.create_task(proxy.serve(sock))
    try:
        base = f"http://{HOST}:{sock.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def told(answer: httpx.Response) -> list[Block]:
    return list(Splitter().feed(answer.content))


@pytest.mark.parametrize(
    "asked",
    [
        says(),
        says(b"HTTP/1.1 200 OK\r\nContent-Le"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nid: 7\nevent: text.delta\n"),
    ],
    ids=["before its answer", "in its answer's head", "in its answer"],
)
async def test_a_reader_whose_web_process_dies_is_asked_to_reconnect(
    asked: Asked, settings: Any
) -> None:
    async with origin(asked, settings), visitor() as client:
        answer = await client.get(STREAM)
    (beat,) = told(answer)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert (beat.id, beat.event, beat.payload) == (None, "heartbeat", {"head": None})
    assert beat.retry is not None
    assert settings.STREAM_RETRY[0] <= beat.retry <= settings.STREAM_RETRY[1]


async def test_a_reader_that_connects_without_a_web_process_is_asked_to_reconnect(
    settings: Any,
) -> None:
    settings.PUSHPIN_ORIGIN = f"{HOST}:{free_port()}"
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    async with visitor() as client:
        near = await client.get(STREAM)
        listed = await client.get(STREAM, headers={"Origin": "https://app.example"})
        other = await client.get(STREAM, headers={"Origin": "https://other.example"})
        refused = await client.get(MESSAGES, headers={"Origin": "https://app.example"})
    assert [answer.status_code for answer in (near, listed, other)] == [200, 200, 200]
    assert {answer.headers["Server"] for answer in (near, refused)} == {"Unspool"}
    assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert listed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in near.headers
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_a_failed_request_says_whether_it_may_have_been_processed(
    settings: Any,
) -> None:
    async with origin(says(), settings), visitor() as client:
        cut_off = await client.post(MESSAGES, json={"message": "hello"})
        unheard_of = await client.post(STREAM)
    settings.PUSHPIN_ORIGIN = f"{HOST}:{free_port()}"
    async with visitor() as client:
        away = await client.post(MESSAGES, json={"message": "hello"})
    assert [
        (a.status_code, orjson.loads(a.content)["code"]) for a in (cut_off, unheard_of, away)
    ] == [(502, "cut_off"), (502, "cut_off"), (503, "unavailable")]
    assert {a.headers["Content-Type"] for a in (cut_off, away)} == {"application/problem+json"}
    assert away.headers["Retry-After"] == "1"


async def test_a_web_process_that_accepts_no_connection_has_processed_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "REACH", 0.2)
    with ExitStack() as sockets:
        deaf = sockets.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(3):  # more than the backlog holds: the kernel accepts no other connection
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        settings.PUSHPIN_ORIGIN = f"{HOST}:{deaf.getsockname()[1]}"
        async with visitor() as client:
            answer = await client.post(MESSAGES, json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_an_endless_response_is_refused(settings: Any) -> None:
    endless = says(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 500\n")
    async with origin(endless, settings), visitor() as client:
        answer = await client.get(STREAM)
    assert (answer.status_code, answer.json()["code"]) == (502, "grip_off")


async def test_request_and_response_pass_unchanged(settings: Any) -> None:
    heard: list[bytes] = []

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        heard.append(await reader.readexactly(5))
        writer.write(
            b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nGrip-Hold: stream\r\nKeep-Alive: timeout=5\r\n"
            b"Content-Length: 4\r\n\r\n\x1f\x8b\x00\x01"
        )
        writer.close()

    sent = {
        "Host": "chat.example.org",
        "Cookie": "a=1; b=2",
        "Grip-Sig": "signed",
        "Last-Event-ID": "7",
        "X-Long": "x" * 12_000,
        "User-Agent": "a client",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    async with origin(asked, settings), visitor() as client:
        request = client.build_request(
            "POST", f"{MESSAGES}?a=%2F%20b&c=%C3%A4", content=b"hello", headers=sent
        )
        answer = await client.send(request, stream=True)
        said = b"".join([portion async for portion in answer.aiter_raw()])
    line, *lines = heard[0].decode().removesuffix("\r\n\r\n").split("\r\n")
    arrived = dict(entry.split(": ", 1) for entry in lines)
    assert line == f"POST {MESSAGES}?a=%2F%20b&c=%C3%A4 HTTP/1.1"
    assert arrived.pop("Connection") == "close"
    assert arrived == {**sent, "Content-Length": "5"}
    assert heard[1] == b"hello"
    assert (answer.status_code, said) == (202, b"\x1f\x8b\x00\x01")
    assert answer.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["Grip-Hold"] == "stream"
    assert answer.headers["Server"] == "Unspool"
    assert "Keep-Alive" not in answer.headers


async def test_the_proxy_keeps_no_cookie_and_follows_no_redirect(
    settings: Any,
) -> None:
    heads: list[bytes] = []

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /\r\nSet-Cookie: sessionid=another\r\n")
        writer.write(b"Content-Length: 0\r\n\r\n")
        writer.close()

    async with origin(asked, settings):
        # By name: aiohttp keeps no cookies of addresses.
        settings.PUSHPIN_ORIGIN = settings.PUSHPIN_ORIGIN.replace(HOST, "localhost")
        async with visitor() as client:
            answers = [await client.get(MESSAGES, headers={"Host": "a.example"}) for _ in range(2)]
            client.cookies.clear()
            answers.append(await client.get(MESSAGES, headers={"Host": "a.example"}))
    assert [(a.status_code, a.headers["Location"]) for a in answers] == [(302, "/")] * 3
    assert len(heads) == 3
    assert b"Cookie" not in heads[-1]


async def test_a_body_that_is_too_long_is_refused_by_the_web_process(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
    too_long = says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
    async with origin(too_long, settings), visitor() as client:
        answer = await client.post(MESSAGES, content=b"x" * 9_000_000)
    assert (answer.status_code, answer.text) == (413, "long")


async def test_the_request_of_a_reader_that_left_is_cancelled(
    settings: Any,
) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await reader.read()
        left.set()
        writer.close()

    async with origin(asked, settings), visitor() as client:
        asking = asyncio.create_task(client.get(STREAM))
        await asyncio.wait_for(came.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(left.wait(), 5)
