"""A tiny event stream for tests of followers and proxies. It sends the blocks after a cursor."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from streams.protocol.sse import encode_event

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OVER = b"HTTP/1.1 204 No Content\r\n\r\n"
FIRST = b"retry: 1\n\n"


def event_block(number: int) -> bytes:
    return encode_event("text.delta", json.dumps({"n": number}), number)


def chunk(portion: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(portion), portion)


@asynccontextmanager
async def fake_stream(
    tip: int, *, answer: Callable[[int | None], bytes] | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve events 1 to `tip`, and after them 204. Yields the port and the heads of all requests.

    `answer` gets the cursor, and returns all bytes of a response instead.
    """
    asked: list[bytes] = []

    def whole(cursor: int | None) -> bytes:
        if cursor == tip:
            return OVER
        events = (chunk(event_block(n)) for n in range((cursor or 0) + 1, tip + 1))
        return b"".join([HEAD, chunk(FIRST), *events, b"0\r\n\r\n"])

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        found = re.search(rb"(?:Last-Event-ID: |lastEventId=)(\d+)", head, re.IGNORECASE)
        writer.write((answer or whole)(int(found[1]) if found else None))
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked
