"""A request whose body is bounded by its path, waited for in time, and let go with its answer."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest

from streams.http.bodies import max_bytes

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Request(ASGIRequest):
    """Django's request, with a bound on its body."""

    @property
    def body(self) -> bytes:
        """As Django's. Raises `RequestDataTooBig`."""
        if length_of(self.scope) > max_bytes(self.path):
            raise RequestDataTooBig
        return super().body

    def drop_body(self) -> None:
        """Free the body. Django's requests are in cycles with their users, and stay for long."""
        self._body = b""
        self._stream: BytesIO = BytesIO()


def wants_body(scope: Scope) -> bool:
    """Whether to wait for the body: one that is too long, or does not say how long, is refused."""
    chunked = b"transfer-encoding" in dict(scope["headers"])
    return not chunked and length_of(scope) <= max_bytes(scope["path"])


def length_of(scope: Mapping[str, Any]) -> float:
    """The bytes that the request announces."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else math.inf


def receive_in_time(receive: Receive) -> Receive:
    """To hear the next piece of a body, or `TimeoutError`."""

    async def next_piece() -> Mapping[str, Any]:
        async with asyncio.timeout(settings.CONNECTION_TIMEOUT):
            return await receive()

    return next_piece
