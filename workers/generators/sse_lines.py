"""Reads the lines of a Server-Sent Events response, with limits on their size and wait.

WHATWG HTML §9.2.5: a line ends with LF, CR LF or CR, and a byte order mark may come first.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp
import httpx2
from aiohttp.base_protocol import BaseProtocol
from django.conf import settings

from workers.generators.waits import waits_of

LONGEST_LINE = 1024 * 1024  # bytes of one line, and of the data of one event
READS = 3  # reads in half a delta window, after which the reader rests until its end
EVENT_LINES = 2  # lines of one event; if a rest brought more lines, the reader rests again
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineTooLong(Exception):
    """The server sent a line or an event of more than LONGEST_LINE bytes: read no further."""


class LineSplitter:
    """Splits a stream of bytes into lines. A part of the stream may begin or end anywhere."""

    def __init__(self) -> None:
        self.is_too_long = False  # the line after those returned is longer than LONGEST_LINE
        self._rest = bytearray()  # the beginning of a line whose end has not arrived
        self._after_cr = False
        self._is_first = True

    def split(self, part: bytes) -> list[bytes]:
        """Return the lines that end in `part`, empty ones included, without their line ends."""
        if self._after_cr and part:
            part = part.removeprefix(b"\n")  # of a CR LF: its CR has already ended the line
            self._after_cr = False
        if b"\n" not in part and b"\r" not in part:
            self._rest += part
            self.is_too_long = len(self._rest) > LONGEST_LINE
            return []
        self._after_cr = part.endswith(b"\r")
        if self._rest:
            part = bytes(self._rest + part)
            self._rest.clear()
        lines = part.splitlines()  # of bytes, so at LF, CR and CR LF only
        if not part.endswith((b"\n", b"\r")):
            self._rest += lines.pop()
        if self._is_first:
            lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
            self._is_first = False
        if len(part) > LONGEST_LINE:
            for n, line in enumerate([*lines, self._rest]):
                if len(line) > LONGEST_LINE:
                    self.is_too_long = True
                    return lines[:n]
        return lines

    def rest(self) -> bytes:
        """Return the last line if the stream ended without a line end, otherwise nothing."""
        rest = bytes(self._rest)
        return rest.removeprefix(BYTE_ORDER_MARK) if self._is_first else rest


class LineReader:
    """Reads the lines of a response.

    `read` raises `TimeoutError` if the next line takes longer than `patience` seconds to arrive.
    The time that the caller needs between two reads does not count.

    A fast model sends each token in its own packet. So the reader rests between reads, and gets
    many packets at once, because a read costs several times as much as a token.
    """

    def __init__(self, response: httpx2.Response, *, patience: float) -> None:
        self._response = response
        self._usual = self._patience = patience
        self._is_closing = False
        self._waited = 0.0  # seconds since the last line, or since `close_within`

    def close_within(self, seconds: float) -> None:
        """Give the server this many seconds in total to end the stream."""
        self._patience, self._is_closing, self._waited = seconds, True, 0.0

    def reopen(self) -> None:
        """Undo `close_within`: each line has `patience` seconds again."""
        self._patience, self._is_closing, self._waited = self._usual, False, 0.0

    async def read(self) -> AsyncGenerator[list[bytes], None]:
        """Yield lists of lines as they arrive, and an empty line after the stream's last line.

        Raises `TimeoutError`, `LineTooLong`, and the errors of the HTTP client.
        """
        waits = waits_of(asyncio.get_running_loop())
        clock = waits.time
        splitter = LineSplitter()
        period, began_period, reads, has_rested = settings.DELTA_WINDOW / 2, 0.0, 0, False
        # Raw bytes cost less per token, and the request asks for `Accept-Encoding: identity`.
        is_encoded = "content-encoding" in self._response.headers
        source = self._response.aiter_bytes() if is_encoded else self._response.aiter_raw()
        async with aclosing(source):
            while True:
                began = clock()
                with waits.limit(self._patience - self._waited):
                    part = await anext(source, None)
                if part is None:
                    break
                now = clock()
                self._waited += now - began
                if now - began_period >= period:
                    began_period, reads = now, 0
                reads += 1
                if lines := splitter.split(part):
                    if not self._is_closing:
                        self._waited = 0.0
                    yield lines
                if splitter.is_too_long:
                    raise LineTooLong
                is_fast = reads >= READS or (has_rested and len(lines) > EVENT_LINES)
                has_rested = bool(lines) and period > 0 and is_fast
                if has_rested:
                    await self._rest(began_period + period - now)
        yield [splitter.rest(), b""]

    async def _rest(self, seconds: float) -> None:
        """Let packets gather in the kernel, so that one read returns all of them.

        Without `pause_reading`, the event loop would receive and parse each packet on arrival.
        """
        connection = connection_of(self._response)
        if connection is not None:  # a connection without waiting data is false
            connection.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if connection is not None and connection.transport:
                connection.resume_reading()


def connection_of(response: httpx2.Response) -> BaseProtocol | None:
    """Return the response's connection, or None if it has ended or does not exist.

    aiohttp itself also pauses it while too much data waits to be read. httpx2 has no public name
    for the connection. A test fails if a new version stores it elsewhere.
    """
    stream = getattr(getattr(response, "stream", None), "_stream", None)
    inner: aiohttp.ClientResponse | None = getattr(stream, "_aiohttp_response", None)
    connection = inner and inner.connection
    return connection.protocol if connection else None
