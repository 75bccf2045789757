"""Requests as bytes, for clients that do with a connection what no library does."""

from __future__ import annotations

import asyncio
import socket

from tests.support.ports import HOST
from tests.support.visitor import Visitor

BUFFER = 4096  # bytes


def request(visitor: Visitor, line: str, *fields: str, body: bytes = b"") -> bytes:
    """A request in this visitor's name, with these further header fields."""
    named = [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
    credentials = [f"{name}: {value}" for name, value in visitor.write_credentials().items()]
    return "\r\n".join([line, *fields, *named, *credentials, "", ""]).encode() + body


async def sent_without_reading(
    port: int, request: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with small buffers, on which nothing is read before the test does."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # before the window is offered
    small.connect((HOST, port))
    reading, writing = await asyncio.open_connection(sock=small, limit=BUFFER)
    writing.write(request)
    return reading, writing
