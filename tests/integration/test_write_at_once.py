"""Bytes that are written past a response's task, and what a client ends when it leaves."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from streams.http.event_stream import CONNECTION
from tests.integration.support.serving import serving

HEADERS = b"Host: a\r\n"
WITHIN = 30.0  # seconds, on a busy machine


async def streamed(
    wrap: Callable[[Any], Any], read: Callable[[socket.socket], None], *, method: bytes = b"GET"
) -> list[bool]:
    """What writing at once returned, for an application whose `send` is wrapped."""
    wrote, ended = list[bool](), asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        send = wrap(send)
        write = scope["extensions"][CONNECTION]["writer"](send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        for _ in range(200 if write else 0):
            wrote.append(write(b"b" * 60_000))
            await asyncio.sleep(0)
        ended.set()
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(stream) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(method + b" / HTTP/1.1\r\n" + HEADERS + b"\r\n")
            await asyncio.wait_for(ended.wait(), WITHIN)
            await asyncio.to_thread(read, client)
    return wrote


async def test_a_chunk_written_at_once_is_a_part_of_the_body() -> None:
    def read(client: socket.socket) -> None:
        body = b""
        while not body.count(b"b" * 60_000):
            body += client.recv(65_536)
        assert b"\r\n1\r\na\r\nea60\r\n" + b"b" * 60_000 in body

    assert (await streamed(lambda send: send, read))[0]


async def test_a_client_that_does_not_read_is_not_written_to() -> None:
    wrote = await streamed(lambda send: send, lambda _: None)
    assert wrote[0]
    assert not wrote[-1]


async def test_nothing_is_written_past_asgi_middleware() -> None:
    def counted(send: Any) -> Any:
        async def pass_on(message: Any) -> None:
            await send(message)

        return pass_on

    assert await streamed(counted, lambda _: None) == []


async def test_nothing_is_written_after_the_head_that_a_client_asked_for() -> None:
    assert await streamed(lambda send: send, lambda _: None, method=b"HEAD") == []


async def test_each_response_is_told_that_its_client_has_left() -> None:
    """Also one behind which the client has sent its next request already."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(application) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(2 * (b"GET / HTTP/1.1\r\n" + HEADERS + b"\r\n"))
            await asyncio.wait_for(begun.wait(), WITHIN)  # both have come, in one packet
        await asyncio.wait_for(left.wait(), WITHIN)
