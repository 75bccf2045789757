"""Many readers on raw sockets in one process, with as little processor time as possible.

A reader counts ids. If a text contains the moment at which it was sent (`@<µs>@`, by the machine's
monotonic clock), the reader also records how late it arrived. It keeps no event.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ID = re.compile(rb"(?:^|\n)id: ((?:[^\n:]*:)?(\d+))\n")
SAID = re.compile(rb"@(\d+)@")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The request for a channel: path and headers, and a cursor before all events."""

    path: str
    headers: Mapping[str, str]
    cursor: str | None = None
    body: bytes = b""  # if it is not empty, the request is a POST

    def request(self, cursor: str | None) -> bytes:
        headers = {"Host": "127.0.0.1", "Accept": "text/event-stream", **self.headers}
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        if self.body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
        method = "POST" if self.body else "GET"
        lines = [f"{method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(eq=False)
class Reader(asyncio.Protocol):
    """A reader over as many connections as `connect` is called."""

    port: int
    place: Place
    timing: bool = False
    count: int = 0  # events received
    repeated: int = 0  # events received again
    backwards: int = 0  # events received after a later one
    received: int = 0  # bytes
    status: bytes = b""
    last: str | None = None
    begun: float = 0.0  # moment of this connection's response head
    arrived: float = 0.0  # moment of the last bytes, before they were parsed
    late: array[float] = field(default_factory=lambda: array("d"))  # µs, if `timing`
    numbers: set[int] | None = None
    awaited: tuple[Callable[[bytes], bool], asyncio.Future[float]] | None = None
    _number: int = -1
    _rest: bytearray = field(default_factory=bytearray)
    _head: bool = True
    _transport: asyncio.BaseTransport | None = None

    async def connect(self) -> None:
        """Open a connection, after the last event received."""
        self._rest, self._head, self.status = bytearray(), True, b""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self.port)
        cursor = self.place.cursor if self.last is None else self.last
        self._transport.write(self.place.request(cursor))

    def drop(self) -> None:
        if self._transport:
            self._transport.abort()  # type: ignore[attr-defined]
            self._transport = None

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._head

    async def hears(self, said: Callable[[bytes], bool], within: float) -> float:
        """Wait for bytes for which `said` is true. Returns the moment (monotonic seconds)."""
        self.awaited = (said, asyncio.get_running_loop().create_future())
        return await asyncio.wait_for(self.awaited[1], within)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self.arrived = time.monotonic()
        self.received += len(data)
        if self._head:
            self._rest += data
            if b"\r\n\r\n" not in self._rest:
                return
            head, body = self._rest.split(b"\r\n\r\n", 1)
            self.status, self._rest, self._head = bytes(head[9:12]), bytearray(), False
            self.begun = time.monotonic()
            data = bytes(body)
        # A long event arrives in many pieces, so each piece is searched only once.
        end = (self._rest[-1:] + data).rfind(b"\n\n") + 2 - len(self._rest[-1:])
        self._rest += data
        if end < 1:
            return
        end += len(self._rest) - len(data)
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        if self.numbers is None:
            ids = ID.findall(whole)
            if ids:
                self._count_fast(ids)
        else:
            self._count_all(ID.findall(whole))
        if self.timing:
            now = time.monotonic_ns() / 1000
            self.late.extend([now - int(said) for said in SAID.findall(whole)])
        if self.awaited and not self.awaited[1].done() and self.awaited[0](whole):
            self.awaited[1].set_result(time.monotonic())

    def _count_fast(self, ids: list[tuple[bytes, bytes]]) -> None:
        """Count ids. If they ascend by one, only the first and the last id are parsed."""
        first, last = number_of(*ids[0]), number_of(*ids[-1])
        if first > self._number and last - first == len(ids) - 1:
            self.count += len(ids)
            self._number = last
            self.last = ids[-1][0].decode()
        else:
            self._count_all(ids)

    def _count_all(self, ids: list[tuple[bytes, bytes]]) -> None:
        for name, digits in ids:
            number = number_of(name, digits)
            if self.numbers is not None:
                self.repeated += number in self.numbers
                self.numbers.add(number)
            else:
                self.repeated += number <= self._number
            self.backwards += number < self._number
            self.count += 1
            self._number = number if self.numbers is not None else max(number, self._number)
            self.last = name.decode()


def number_of(id: bytes, digits: bytes) -> int:
    """The id as one ascending number. An id of nchan is the second, a colon, and a count in it."""
    second, colon, _ = id.partition(b":")
    return int(second) * 1_000_000 + int(digits) if colon and second.isdigit() else int(digits)


async def connected(readers: list[Reader], *, within: float, at_once: int = 100) -> None:
    """Connect all readers, `at_once` at a time, and wait until each has a response."""
    gate = asyncio.Semaphore(at_once)

    async def one(reader: Reader) -> None:
        async with gate:
            await reader.connect()
            while not reader.connected:
                await asyncio.sleep(0.005)

    async with asyncio.timeout(within):
        await asyncio.gather(*(one(reader) for reader in readers))
    if refused := {reader.status for reader in readers} - {b"200"}:
        raise ConnectionError(f"some readers were refused: {refused}")


async def heard(readers: list[Reader], count: int, *, within: float) -> float | None:
    """Wait until each reader has `count` different events. Returns the moment, or None if late."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if all(reader.count - reader.repeated >= count for reader in readers):
            return time.monotonic()
        await asyncio.sleep(0.01)
    return None
