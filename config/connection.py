"""A peer's connection, which is closed when he does not ask for anything in time.

uvicorn counts the time after an answer alone: whoever says nothing from the beginning, or half a
request's head, would keep his connection for as long as he likes.
"""

import asyncio

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """uvicorn's, with an end to waiting for a request's head."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Half a head, a blank line, or the rest of a body that was refused.
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._patience is None and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._patience is None:  # the next one's head, while this one's answer is under way
            self._wait()

    def on_headers_complete(self) -> None:
        self._have_done()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(settings.CONNECTION_TIMEOUT, self.transport.close)

    def _have_done(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None
