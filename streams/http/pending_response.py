"""A response whose content is known only later, after the request has given its thread back."""

import asyncio
from collections.abc import Awaitable, Callable

from django.http import HttpResponse


class PendingResponse(HttpResponse):
    """`complete` sets the content. It is cancelled if the client disconnects, and runs once.

    `on_close` is called at the end. `unfinished` is sent if the process stops earlier.

    The ASGI handler awaits `complete` in its event loop, so a waiting client holds no thread.
    """

    def __init__(
        self,
        unfinished: HttpResponse,
        complete: Callable[["PendingResponse"], Awaitable[None]],
        on_close: Callable[[], None],
    ) -> None:
        super().__init__()
        self._unfinished = unfinished
        self._complete = complete
        self._on_close = on_close

    def close(self) -> None:
        super().close()
        self._on_close()

    async def complete(self) -> None:
        try:
            await self._complete(self)
        except asyncio.CancelledError:
            self.replace(self._unfinished)
            raise

    def replace(self, other: HttpResponse) -> None:
        """Take the content, status and headers of another response."""
        self.content, self.status_code = other.content, other.status_code
        for name, value in other.headers.items():
            self.headers[name] = value
        if other.status_code == 204:  # no Content-Length in a 204: RFC 9110 §8.6
            del self["Content-Length"], self["Content-Type"]
        else:
            self.headers["Content-Length"] = str(len(other.content))
