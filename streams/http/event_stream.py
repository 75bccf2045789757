"""A response whose pieces are bytes of an event stream, and go to the server as they are.

Django's own class passes each piece through two generators more, which cost a tenth of a write.
Middleware sees the same as with Django's class: it may read `streaming_content` and replace it.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from django.http import StreamingHttpResponse

CONTENT: property = vars(StreamingHttpResponse)["streaming_content"]


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
