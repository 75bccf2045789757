"""A client of the WebSocket: its frames as received, and a follower that reconnects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.ports import HOST
from tests.support.raw_requests import request, sent_without_reading
from tests.support.recording import Connection, Ended, Received, Recording
from tests.support.sse_blocks import parse
from tests.support.visitor import Visitor

WITHIN = 30.0  # seconds for a frame that a test waits for
Condition = Callable[["Frame"], bool]


@dataclass(frozen=True)
class Frame:
    """One frame of the server."""

    id: int | None
    type: str
    data: dict[str, Any]
    text: str

    @classmethod
    def of(cls, text: str | bytes) -> Frame:
        assert isinstance(text, str)
        values = json.loads(text)
        assert list(values) == ["id", "type", "data"]
        return cls(**values, text=text)

    @property
    def block(self) -> bytes:
        """The stream's block for this frame, with the same bytes of data."""
        if self.type == "retry":
            return b"retry: %d" % self.data["milliseconds"]
        id = "" if self.id is None else f"\nid: {self.id}"
        data = self.text.partition('"data":')[2].removesuffix("}")
        return f"event: {self.type}\ndata: {data}{id}".encode()


class SocketClient:
    """An open WebSocket, and the frames that it has received."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []

    async def receive(self) -> Frame:
        """The next frame. Raises `ConnectionClosed`."""
        async with asyncio.timeout(WITHIN):
            self.frames.append(Frame.of(await self.connection.recv()))
        return self.frames[-1]

    async def wait_for(self, condition: Condition) -> Frame:
        """The next frame for which `condition` is true."""
        async with asyncio.timeout(WITHIN):  # heartbeats come for ever
            while not condition(await self.receive()):
                pass
        return self.frames[-1]

    async def wait_for_type(self, type: str) -> Frame:
        return await self.wait_for(lambda frame: frame.type == type)

    async def wait_for_end(self, run: str) -> None:
        """Wait until the run is completed. Its end may have come before another awaited frame."""

        def is_end(frame: Frame) -> bool:
            return frame.type == "run.completed" and frame.data["run"] == run

        if not any(map(is_end, self.frames)):
            await self.wait_for(is_end)

    async def send(self, name: str, type: str, data: object, key: str | None = None) -> None:
        frame = {"name": name, "type": type, "data": data}
        keyed = {"idempotency_key": key} if key is not None else {}
        await self.connection.send(json.dumps(frame | keyed))

    async def response(self, name: str | None) -> Frame:
        """The response to the frame of this name."""
        return await self.wait_for(
            lambda one: one.type in ("accepted", "refused") and one.data["name"] == name
        )

    async def ask(self, text: str, *, name: str = "a", **also: object) -> Frame:
        """Send a message, and return the response."""
        await self.send(name, "message", {"message": text, **also})
        return await self.response(name)

    async def closed(self) -> tuple[int, str]:
        """Read to the end. Returns the close's code and reason, or 1006 without a close frame."""
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    await self.receive()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


@asynccontextmanager
async def opened(
    visitor: Visitor,
    conversation: str,
    query: str = "",
    *,
    port: int | None = None,
    headers: Mapping[str, str] | None = None,
    origin: str | None = "",
    **options: Any,
) -> AsyncIterator[SocketClient]:
    """Open the conversation's socket in this visitor's name, as a page of the service does.

    `headers` replaces the visitor's, `origin` the service's. If `origin` is None, none is sent.
    """
    place = f"{HOST}:{port or visitor.port}"
    shown = {**(visitor.credentials() if headers is None else headers)}
    if origin is not None:
        shown["Origin"] = origin or f"http://{place}"
    async with websockets.connect(
        f"ws://{place}/api/conversations/{conversation}/socket/{query}",
        additional_headers=shown,
        max_size=None,
        max_queue=None,  # otherwise a client answers no ping while the test does not read
        proxy=None,
        compression=None,
        user_agent_header=None,
        **options,
    ) as connection:
        yield SocketClient(connection)


async def refusal(visitor: Visitor, conversation: str, query: str = "", **how: Any) -> Frame:
    """Open a socket that is refused. Returns its only frame. The close has the same status."""
    async with opened(visitor, conversation, query, **how) as client:
        code, _ = await client.closed()
    (frame,) = client.frames
    assert (frame.type, frame.data["name"]) == ("refused", None)
    assert code == 4000 + frame.data["problem"]["status"]
    return frame


async def unread_socket(
    visitor: Visitor, conversation: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket whose client reads nothing, not even the handshake's response."""
    opening = request(
        visitor,
        f"GET /api/conversations/{conversation}/socket/ HTTP/1.1",
        f"Host: {HOST}:{visitor.port}",
        f"Origin: http://{HOST}:{visitor.port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    return await sent_without_reading(visitor.port, opening)


class SocketFollower:
    """Follows a conversation until it is idle, over as many connections as needed."""

    def __init__(
        self,
        visitor: Visitor,
        conversation: str,
        *,
        port: int,
        cursor: int | None = None,
        origin: str = "",
    ) -> None:
        self.visitor = visitor
        self.origin = origin
        self.port = port
        self.first_cursor = cursor
        self.recording = Recording(conversation)

    async def follow(self) -> Recording:
        while not self.recording.whole:
            reached = self.recording.cursor()
            cursor = self.first_cursor if reached is None else reached
            connection = Connection(
                requested_at=time.monotonic(), cursor=None if cursor is None else str(cursor)
            )
            self.recording.connections.append(connection)
            await self._read(connection)
            await asyncio.sleep(0.02)
        return self.recording

    async def _read(self, connection: Connection) -> None:
        cursor = "" if connection.cursor is None else f"&lastEventId={connection.cursor}"
        query = f"?until=idle{cursor}"
        try:
            async with opened(
                self.visitor,
                self.recording.conversation,
                query,
                port=self.port,
                origin=self.origin,
            ) as client:
                connection.status = 200
                code = 0
                while not code:
                    try:
                        frame = await client.receive()
                    except ConnectionClosed as end:
                        code = end.rcvd.code if end.rcvd else 1006
                        break
                    block = parse(frame.block)
                    connection.received.append(Received(block, time.monotonic()))
                connection.ended = Ended.BROKEN if code == 1006 else Ended.CLOSED
                self.recording.whole = code == 1000
                if code not in (1000, 1006, 1012):
                    raise AssertionError(f"the socket was closed with {code}")
        except (OSError, InvalidHandshake, EOFError):
            connection.ended = Ended.UNANSWERED
