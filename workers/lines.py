"""The lines of an answer as they arrive, with a bound on how long and how large each may be."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx2

LONGEST_LINE = 16 * 1024 * 1024  # bytes; a server that never ends its line must not fill memory


class LineTooLong(Exception):
    """The server has sent more than LONGEST_LINE bytes without an end of line."""


class Lines:
    """The lines of a response, without their ends and without empty ones.

    TimeoutError where the end of the next line takes longer than `patience` seconds. Time that
    the reader of the lines takes for itself does not count.
    """

    def __init__(self, response: httpx2.Response, *, patience: float) -> None:
        self.response = response
        self.patience = patience

    async def read(self) -> AsyncGenerator[bytes, None]:
        clock = asyncio.get_running_loop().time
        arriving, size, waited = [], 0, 0.0
        # Raw costs less a token; and this is asked for with `Accept-Encoding: identity`.
        coded = "content-encoding" in self.response.headers
        source = self.response.aiter_bytes() if coded else self.response.aiter_raw()
        async with aclosing(source):
            while True:
                began = clock()
                async with asyncio.timeout(self.patience - waited):
                    part = await anext(source, b"")
                if not part:
                    break
                if b"\n" not in part:
                    arriving.append(part)
                    size += len(part)
                    waited += clock() - began
                    if size > LONGEST_LINE:
                        raise LineTooLong
                    continue
                lines = b"".join([*arriving, part]).split(b"\n")
                arriving, size, waited = [lines.pop()], len(lines[-1]), 0.0
                for line in lines:
                    if line := line.rstrip(b"\r"):
                        yield line
        if last := b"".join(arriving):
            yield last
