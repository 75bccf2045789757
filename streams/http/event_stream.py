"""A response whose pieces are bytes of an event stream, and go to the server unchanged.

Django's own class passes each piece through two more generators, which cost a tenth of a write.
For middleware nothing differs: it may read `streaming_content` and replace it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

from django.http import StreamingHttpResponse

from streams.http.request import Scope, Send

# An ASGI extension of `config.connection`: {"abort": …, "writer": …}. `abort()` breaks the
# connection. `writer(send)` returns a `Write`, or None if middleware wants to see all that is sent.
CONNECTION = "unspool.connection"
PART = 64 * 1024  # bytes
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # of each stream
CONTENT: property = vars(StreamingHttpResponse)["streaming_content"]
Write = Callable[[bytes], bool]  # writes bytes of the body at once; returns whether it did


@runtime_checkable
class LivePieces(Protocol):
    """An iterator of pieces. Live frames may bypass it, because they are written on arrival."""

    def write_with(self, write: Write) -> None:
        """From now on, frames may be written with `write` while the next piece is awaited."""
        ...

    def note_progress(self) -> None:
        """Record that the server has taken a part of the piece, so the client reads."""
        ...


class EventStreamResponse(StreamingHttpResponse):
    """`pieces` is an asynchronous iterator of bytes, with `aclose`. Its `close` is called, too."""

    is_replaced = False  # whether middleware has put other content in the place of the pieces

    def __init__(self, pieces: AsyncIterable[bytes], **options: Any) -> None:
        super().__init__(pieces, content_type="text/event-stream", **options)

    @property
    def streaming_content(self) -> Any:
        return self._pieces

    @streaming_content.setter
    def streaming_content(self, pieces: Any) -> None:
        CONTENT.__set__(self, pieces)
        self.is_replaced = "_pieces" in vars(self)
        self._pieces = pieces

    async def send(self, send: Send) -> None:
        """Send the response. Its head is dropped once it is sent, because the body lasts for hours.

        Django's middleware has ended by then.
        """
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": [
                    *((name.encode(), value.encode("latin-1")) for name, value in self.items()),
                    *((b"Set-Cookie", c.OutputString().encode()) for c in self.cookies.values()),
                ],
            }
        )
        self.headers = type(self.headers)({})
        live = self._pieces if isinstance(self._pieces, LivePieces) else None
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                # In parts, because the server waits for a slow client between two parts.
                for start in range(0, len(piece), PART):
                    part = piece[start : start + PART]
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    if live:
                        live.note_progress()
        await send({"type": "http.response.body"})

    def connect(self, scope: Scope, send: Send) -> None:
        """Let the pieces be written at once, if the server can and no middleware wants to see them.

        Call it only if the pieces were not replaced.
        """
        server = scope.get("extensions", {}).get(CONNECTION)
        write = server["writer"](send) if server else None
        if write and isinstance(self._pieces, LivePieces) and "Content-Length" not in self:
            self._pieces.write_with(write)


def stream_head(headers: dict[str, str]) -> EventStreamResponse:
    """The response to HEAD. It has no `Content-Length`, as a stream has none (RFC 9110 §8.6)."""
    return EventStreamResponse(_nothing(), headers=headers)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
