"""Requests as bytes, for clients that use a connection in ways that no library does."""

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
    """Send the request on a connection with small buffers, and leave the reading to the test."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # before the window is offered
    small.connect((HOST, port))
    reading, writing = await asyncio.open_connection(sock=small, limit=BUFFER)
    writing.write(request)
    return reading, writing
