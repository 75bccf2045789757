"""Requests that reach a web process while it ends. A proxy does not send a POST again.

The stories run on the web process's own event loop, uvloop's.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import uvicorn
import uvloop

from config.connection import HttpConnection
from config.server import Web

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"
CLOSES = b"\r\nconnection: close\r\n"
HERE = "127.0.0.1"
WAITING = 5  # connections
WITHIN = 30.0  # seconds, on a busy machine


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


class Process:
    """A web process with a small application. It runs in the test's event loop."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            application, http=HttpConnection, ws="none", lifespan="off", log_config=None
        )
        config.load()
        self.web = Web(config)
        self.web.lifespan = config.lifespan_class(config)
        self.listener = socket.create_server((HERE, 0))
        self.port = self.listener.getsockname()[1]

    async def serve(self) -> None:
        await self.web.startup([self.listener])
        await self.web.main_loop()
        await self.web.shutdown([self.listener])

    def end(self) -> None:
        """Do in the event loop what the signal does."""
        self.web.should_exit = True
        self.web.stop_accepting()

    async def has_accepted(self) -> None:
        while not self.web.server_state.connections:
            await asyncio.sleep(0.01)

    async def is_ending(self) -> None:
        """Wait until the listener is closed, and each connection knows that the process ends."""
        open_ones = cast("set[HttpConnection]", self.web.server_state.connections)
        while self.web.servers[0].is_serving() or not all(one._is_ending for one in open_ones):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def process() -> AsyncIterator[Process]:
    one = Process()
    serving = asyncio.create_task(one.serve())
    while not one.web.started:
        await asyncio.sleep(0.01)
    try:
        async with asyncio.timeout(WITHIN):
            yield one
    finally:
        one.end()
        one.web.force_exit = True  # a failed test leaves its connection behind
        await serving


class Client:
    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.reader, self.writer = streams

    async def asks(self) -> bytes:
        """Send a request, and return the head of its response."""
        if self.writer.is_closing():  # uvloop does not write to a connection that was reset
            return b""
        self.writer.write(REQUEST)
        return await self.response()

    async def response(self) -> bytes:
        """Return the head of a response; empty if there is none."""
        with suppress(OSError, asyncio.IncompleteReadError):
            return await self.reader.readuntil(b"\r\n\r\n")
        return b""

    async def is_closed(self) -> bool:
        """Wait until the process closes the connection. False if it sends something instead."""
        return await self.reader.read() == b""


@asynccontextmanager
async def client(**where: Any) -> AsyncIterator[Client]:
    one = Client(await asyncio.open_connection(**where))
    try:
        yield one
    finally:
        one.writer.close()


async def last_request(*, is_first: bool) -> None:
    """A client's request comes while the process ends; with another one before it, or none."""
    async with process() as one, client(host=HERE, port=one.port) as caller:
        await one.has_accepted()
        if not is_first:
            assert CLOSES not in await caller.asks()
        one.end()
        await one.is_ending()
        assert CLOSES in await caller.asks()
        assert await caller.is_closed()


def test_a_connection_that_waits_in_the_listener_is_answered() -> None:
    async def story() -> None:
        async with process() as one:
            # The event loop does not run meanwhile. Later it accepts one of them in each turn.
            waiting = [socket.create_connection((HERE, one.port)) for _ in range(WAITING)]
            for each in waiting:
                each.sendall(REQUEST)
            one.end()
            for each in waiting:
                async with client(sock=each) as caller:
                    assert b" 204 " in await caller.response()
                    assert await caller.is_closed()

    uvloop.run(story())


def test_a_connection_whose_first_request_comes_late_is_answered() -> None:
    uvloop.run(last_request(is_first=True))


def test_a_kept_connection_is_answered_once_more() -> None:
    uvloop.run(last_request(is_first=False))


def test_a_connection_without_a_request_does_not_keep_the_process() -> None:
    async def story() -> None:
        async with process() as one, client(host=HERE, port=one.port) as caller:
            await one.has_accepted()
            one.end()
            assert await caller.is_closed()

    uvloop.run(story())
