"""The request class, whose body is bounded in size and time, and freed after the response."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestAborted, RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest

from streams.http.request_limits import max_bytes

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
ReadBody = Callable[[Receive], Awaitable[IO[bytes]]]


class Request(ASGIRequest):
    """Django's request, with a bound on its body."""

    @property
    def body(self) -> bytes:
        """The bytes of the body. Raises `RequestDataTooBig` if the path allows fewer."""
        if length_of(self.scope) > max_bytes(self.path):
            raise RequestDataTooBig
        return super().body

    def drop_body(self) -> None:
        """Free the body. Reference cycles keep a request in memory long after its response."""
        self._body = b""
        self._stream: BytesIO = BytesIO()

    def drop_all(self) -> None:
        """Free everything. The response lasts for hours, and only its bytes are still to come."""
        self.__dict__.clear()


def wants_body(scope: Scope) -> bool:
    """Whether to read the body. A body that is too long or has no `Content-Length` is refused."""
    chunked = b"transfer-encoding" in dict(scope["headers"])
    return not chunked and length_of(scope) <= max_bytes(scope["path"])


def length_of(scope: Mapping[str, Any]) -> float:
    """Return `Content-Length` in bytes: 0 if it is absent, infinity if it is not a number."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else math.inf


async def read_in_time(read_body: ReadBody, receive: Receive) -> IO[bytes]:
    """Return the body. Raises `TimeoutError` if no more of it comes for `CONNECTION_TIMEOUT`.

    Django's `read_body` closes its temporary file only if the client disconnects. So a time-out
    looks like a disconnect to it.
    """
    timed_out = False

    async def next_piece() -> Mapping[str, Any]:
        nonlocal timed_out
        try:
            async with asyncio.timeout(settings.CONNECTION_TIMEOUT):
                return await receive()
        except TimeoutError:
            timed_out = True
            return {"type": "http.disconnect"}

    try:
        return await read_body(next_piece)
    except RequestAborted:
        if timed_out:
            raise TimeoutError from None
        raise
