"""A TCP proxy that breaks connections on purpose, in front of web processes or of Redis.

It forwards everything until a method changes that, for open connections and for new ones.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Upstream = tuple[str, int] | Path
PORTION = 65_536  # bytes read at once
STEPS_PER_SECOND = 20  # of a throttled connection, so many that it is a slow line without bursts


class Proxy:
    """Listens on 127.0.0.1:`port`. Connections go to the upstreams that are alive, in turn."""

    def __init__(self, *upstreams: Upstream, port: int = 0) -> None:
        self.upstreams = list(upstreams)
        self.port = port
        self.open: list[ProxiedConnection] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.bytes_per_second: int | None = None
        self._answers_left = 0
        self.cuts_made = 0
        self._cuts: list[tuple[int, bool]] = []
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None  # keeps the port while it refuses

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self.flow()
        for _ in range(5):  # an accepted connection reaches `_pass` some turns of the loop later
            await asyncio.sleep(0)
        self.reset()
        for passage in self.open[:]:
            await passage.over.wait()
        if self._reserved is not None:
            self._reserved.close()

    async def accept(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            sock, self._reserved = self._reserved or _bound(self.port), None
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._server = await asyncio.start_server(self._pass, sock=sock, backlog=1024)
            self.port = sock.getsockname()[1]

    def refuse(self) -> None:
        """Refuse new connections; the open ones continue."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # The kernel refuses connections to a socket that is bound and does not listen. Without
            # it, another program could get the port before `accept`.
            self._reserved = _bound(self.port)

    def reset(self, count: int | None = None) -> None:
        """RST the oldest `count` connections, or all."""
        for passage in self.open[:count]:
            passage.reset()

    def stall(self) -> None:
        """Hold all bytes in both directions. Connections stay open, and new ones are accepted."""
        self.flowing.clear()

    def flow(self) -> None:
        self.flowing.set()

    def stall_after_answers(self, count: int) -> None:
        """Let `count` more answers through, then hold everything."""
        self._answers_left = count

    def answered(self) -> None:
        self._answers_left -= 1
        if self._answers_left == 0:
            self.stall()

    def throttle(self, bytes_per_second: int | None) -> None:
        """Slow each direction of each connection down; None lifts it."""
        self.bytes_per_second = bytes_per_second

    def cut_next_answer_after(self, count: int, *, reset: bool = False) -> None:
        """Close the next connection once exactly `count` bytes of its answer have been passed.

        With `reset`, close it by RST, not by FIN.
        """
        self._cuts.append((count, reset))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passage = ProxiedConnection(
            self, writer, cut=self._cuts.pop(0) if self._cuts else (None, False)
        )
        self.open.append(passage)
        try:
            upstream = await self._reach()
            if upstream is None:
                passage.reset()
                return
            await passage.carry(reader, *upstream)
        finally:
            passage.reset()
            self.open.remove(passage)
            passage.over.set()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self.upstreams:
            upstream = self.upstreams[self._turn % len(self.upstreams)]
            self._turn += 1
            try:
                if isinstance(upstream, Path):
                    return await asyncio.open_unix_connection(upstream)
                return await asyncio.open_connection(*upstream)
            except OSError:
                continue  # this one is down; like a load balancer, try the next
        return None


class ProxiedConnection:
    """One connection through the proxy: the client's side and the upstream's side."""

    def __init__(
        self, proxy: Proxy, reader_side: asyncio.StreamWriter, cut: tuple[int | None, bool]
    ) -> None:
        self.proxy = proxy
        self.sides = [reader_side]
        self.left, self._resets = cut
        self.over = asyncio.Event()

    async def carry(
        self,
        asked: asyncio.StreamReader,
        answered: asyncio.StreamReader,
        far_side: asyncio.StreamWriter,
    ) -> None:
        near_side = self.sides[0]
        self.sides.append(far_side)
        asking = asyncio.create_task(self._pump(asked, far_side.write, far_side))
        answering = asyncio.create_task(self._pump(answered, self._answer, near_side))
        try:
            await answering  # also ends after `asking`, which closes the far side
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def reset(self) -> None:
        for side in self.sides:
            if not side.is_closing():
                wire: socket.socket = side.get_extra_info("socket")
                if wire.family != socket.AF_UNIX:
                    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.transport.abort()

    def _answer(self, portion: bytes) -> None:
        if self.left is not None:
            portion = portion[: self.left]
            self.left -= len(portion)
            self.proxy.cuts_made += portion != b"" and self.left == 0
        self.sides[0].write(portion)
        self.proxy.answered()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        write: Callable[[bytes], None],
        side: asyncio.StreamWriter,
    ) -> None:
        try:
            while self.left != 0 and (portion := await self._portion(source)):
                await self.proxy.flowing.wait()
                if side.is_closing():
                    return
                write(portion)
                await side.drain()
            if self.left == 0 and self._resets:
                self.reset()
        except OSError:
            self.reset()
        finally:
            # Not by RST, which would overtake bytes that are still under way.
            side.close()

    async def _portion(self, source: asyncio.StreamReader) -> bytes:
        rate = self.proxy.bytes_per_second
        if rate is None:
            return await source.read(PORTION)
        await asyncio.sleep(1 / STEPS_PER_SECOND)
        return await source.read(max(1, rate // STEPS_PER_SECOND))


def _bound(port: int) -> socket.socket:
    """A socket that is bound to the port, or to any free port if `port` is 0.

    No other socket can be bound to the port, because this one does not have SO_REUSEADDR.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections may linger
    sock.bind(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return sock
