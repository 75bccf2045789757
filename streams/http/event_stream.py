"""A response whose pieces are bytes of an event stream, and go to the server as they are.

Django's own class passes each piece through two generators more, which cost a tenth of a write.
Middleware sees the same as with Django's class: it may read `streaming_content` and replace it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Protocol, runtime_checkable

from django.http import StreamingHttpResponse

from streams.http.request import Scope, Send

# An ASGI extension of `config.connection`: {"abort": …, "writer": …}. `abort()` breaks the
# connection. `writer(send)` returns a `Write`, or None if middleware wants to see all that is sent.
CONNECTION = "unspool.connection"
CONTENT: property = vars(StreamingHttpResponse)["streaming_content"]
Write = Callable[[bytes], bool]  # writes a chunk of the body at once; returns whether it did


@runtime_checkable
class WritesAtOnce(Protocol):
    """Pieces of which some need not be iterated, because they are written when they arrive."""

    def write_with(self, write: Write) -> None:
        """From now on, chunks may be written with `write` while the next piece is awaited."""
        ...


class EventStreamResponse(StreamingHttpResponse):
    """`pieces` is an asynchronous iterable of bytes. Its `close`, if it has one, is called."""

    def __init__(self, pieces: AsyncIterable[bytes], **options: Any) -> None:
        super().__init__(pieces, content_type="text/event-stream", **options)

    @property
    def streaming_content(self) -> Any:
        return self._pieces

    @streaming_content.setter
    def streaming_content(self, pieces: Any) -> None:
        CONTENT.__set__(self, pieces)
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._pieces)

    def connect(self, scope: Scope, send: Send) -> None:
        """Let the pieces be written at once, if the server can and no middleware changes them."""
        server = scope.get("extensions", {}).get(CONNECTION)
        write = server["writer"](send) if server else None
        if write and isinstance(self._pieces, WritesAtOnce) and "Content-Length" not in self:
            self._pieces.write_with(write)


def as_chunk(data: bytes) -> bytes:
    """A chunk of a body with `Transfer-Encoding: chunked` (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
