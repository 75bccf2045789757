"""A reader on a raw socket that records every block as received, and reconnects.

Like an EventSource it remembers the last id of a complete block, never dispatches an incomplete
block, waits as `retry:` says, and stops at any status other than 200.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping

from tests.support.recording import Connection, Ended, Received, Recording
from tests.support.sse_blocks import Splitter

SILENT_AT_MOST = 45.0  # seconds, three heartbeats; a stream that is silent for longer hangs
HEAD_WITHIN = 30.0  # seconds until a status line
PORTION = 65_536  # bytes read at once
Condition = Callable[[Received], bool]


class Follower:
    """Follows `path` from `cursor` on, until the stream is over (204) or refused, or `stop()`.

    For each number in `cuts`, the reader drops one connection, after this many bytes of its body.
    The reader waits `pause` seconds between two reads of `portion` bytes.
    """

    def __init__(
        self,
        host: str,
        port: int,
        conversation: str,
        *,
        headers: Mapping[str, str],
        cursor: str | int | None = None,
        cursor_in_query: bool = False,
        until_idle: bool = True,
        cuts: Iterable[int] = (),
        retry_at_most: float = 0.2,
        portion: int = PORTION,
        pause: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = (host, port)
        self.headers = headers
        self.first_cursor = cursor
        self.cursor_in_query = cursor_in_query
        self.until_idle = until_idle
        self.cuts = iter(cuts)
        self.retry = self.retry_at_most = retry_at_most
        self.portion = portion
        self.pause = pause
        self.tls = tls
        self.recording = Recording(conversation)
        self._stopped = False
        self._writer: asyncio.StreamWriter | None = None
        self._awaited: list[tuple[Condition, asyncio.Future[Received]]] = []

    async def follow(self) -> Recording:
        """Read over as many connections as needed."""
        while not self._stopped:
            cursor = self.recording.cursor()
            connection = Connection(
                requested_at=time.monotonic(),
                cursor=_text(self.first_cursor if cursor is None else cursor),
            )
            self.recording.connections.append(connection)
            await self._connect(connection)
            if connection.status == 204:
                self.recording.whole = True
                break
            if connection.status not in (0, 200) or self._stopped:
                break
            await asyncio.sleep(self.retry)
        for _, future in self._awaited:
            future.cancel()
        return self.recording

    def drop(self) -> None:
        """Drop the connection now, at any byte, also while it is being opened."""
        connections = self.recording.connections
        if connections and connections[-1].ended is Ended.OPEN:
            connections[-1].ended = Ended.DROPPED
            if self._writer is not None:
                self._writer.transport.abort()

    def stop(self) -> None:
        """Drop the connection and do not reconnect."""
        self._stopped = True
        self.drop()

    async def wait_for(self, condition: Condition, *, within: float) -> Received:
        """Wait for the first block, also among those received, for which `condition` is true."""
        for heard in self.recording.received():
            if condition(heard):
                return heard
        future: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._awaited.append((condition, future))
        return await asyncio.wait_for(future, within)

    async def _connect(self, connection: Connection) -> None:
        try:
            reader, self._writer = await self._open()
        except OSError:
            connection.ended = Ended.UNANSWERED
            connection.ended_at = time.monotonic()
            return
        try:
            if connection.ended is Ended.DROPPED:
                return  # it was dropped before it was open
            self._writer.write(self.request(connection.cursor))
            async with asyncio.timeout(HEAD_WITHIN):
                await _read_head(reader, connection)
            await self._read_body(reader, connection)
            ended = Ended.CLOSED
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            ended = Ended.BROKEN if connection.status else Ended.UNANSWERED
        finally:
            self._writer.transport.abort()
            connection.ended_at = time.monotonic()
        if connection.ended is Ended.OPEN:
            connection.ended = ended

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.pause:
            return await asyncio.open_connection(*self.address, limit=1_048_576, ssl=self.tls)
        # For a slow reader the kernel must not read ahead.
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, self.address)
        return await asyncio.open_connection(sock=wire, limit=4096)

    def request(self, cursor: str | None) -> bytes:
        """The bytes that ask for the stream after this cursor."""
        query = ["until=idle"] if self.until_idle else []
        headers = {"Host": f"{self.address[0]}:{self.address[1]}", "Accept": "text/event-stream"}
        headers |= self.headers
        if cursor is not None and self.cursor_in_query:
            query.append(f"lastEventId={cursor}")
        elif cursor is not None:
            headers["Last-Event-ID"] = cursor
        path = f"/api/conversations/{self.recording.conversation}/events/?{'&'.join(query)}"
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _read_body(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        cut = next(self.cuts, None) if connection.status == 200 else None
        splitter = Splitter()
        body = Body(reader, connection.headers, self.portion)
        try:
            while portion := await asyncio.wait_for(body.read(), SILENT_AT_MOST):
                if cut is not None:
                    portion, cut = portion[:cut], cut - len(portion)
                for block in splitter.feed(portion):
                    self._receive(connection, Received(block, time.monotonic()))
                if cut is not None and cut <= 0:
                    self.drop()
                    return
                if self.pause:
                    await asyncio.sleep(self.pause)
        finally:
            connection.rest = splitter.rest

    def _receive(self, connection: Connection, heard: Received) -> None:
        connection.received.append(heard)
        if heard.block.retry is not None:
            self.retry = min(heard.block.retry / 1000, self.retry_at_most)
        for awaited in self._awaited[:]:
            said, future = awaited
            if future.done():
                self._awaited.remove(awaited)
            elif said(heard):
                future.set_result(heard)


class Body:
    """A response's body: chunked, of known length, or up to the close (RFC 9112 §6.3)."""

    def __init__(
        self, reader: asyncio.StreamReader, headers: Mapping[str, str], portion: int
    ) -> None:
        self.reader = reader
        self.portion = portion
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        self.left = int(length) if length else 0
        self.bounded = length is not None and not self.chunked
        self.started = self.over = False

    async def read(self) -> bytes:
        """The next bytes; nothing at the orderly end."""
        if self.over:
            return b""
        if not self.chunked and not self.bounded:
            return await self.reader.read(self.portion)
        if self.left == 0 and not await self._begin_chunk():
            self.over = True
            return b""
        portion = await self.reader.read(min(self.left, self.portion))
        if not portion:
            raise asyncio.IncompleteReadError(portion, self.left)
        self.left -= len(portion)
        return portion

    async def _begin_chunk(self) -> bool:
        if not self.chunked:
            return False
        if self.started:
            await self.reader.readexactly(2)  # the end of the chunk before
        self.started = True
        line = await self.reader.readuntil(b"\r\n")
        self.left = int(line.split(b";")[0], 16)
        if self.left == 0:
            await self.reader.readuntil(b"\r\n")  # there are no trailers
        return self.left > 0


async def _read_head(reader: asyncio.StreamReader, connection: Connection) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.split("\r\n")
    if not (found := re.match(r"HTTP/1\.[01] (\d{3})", status)):
        raise ConnectionError(f"not a status line: {status[:60]!r}")
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        connection.headers[name.strip().lower()] = value.strip()
    connection.status = int(found[1])
    if connection.status == 204:
        connection.headers["content-length"] = "0"


def _text(cursor: str | int | None) -> str | None:
    return None if cursor is None else str(cursor)
