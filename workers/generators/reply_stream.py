"""Reads the chunks of one reply, and decides whether the reply is complete.

A reply may end with `[DONE]`, a finish reason, the end of the body, silence or a broken
connection. Some servers send a finish reason with every chunk. So a finish reason beside a text
does not end the reply. Once text has followed a reason, this server's reasons prove nothing.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import aiohttp
import httpx2
from django.conf import settings

from workers.generators.chunks import Chunk, read_chunk
from workers.generators.errors import ModelError, fault_of_body
from workers.generators.sse_events import EventJoiner, Signal
from workers.generators.sse_lines import LineReader, LineTooLong
from workers.generators.surrogates import SurrogateJoiner

LAST_WORDS = 2.0  # seconds after the finish reason for the token counts and the end
LAST_BYTES = 0.2  # seconds after [DONE] for the end of the body, so the connection can be reused


class ReplyEnd:
    """The state of the reply's end, from the finish reasons so far.

    `may_end`     a reason or [DONE] came: if the body ends in order, the reply is complete
    `is_complete` the reply is complete, whatever follows: chunks without a reason came before it
    `is_closing`  the reason came without text: the server has LAST_WORDS left
    `is_repeated` text came after a reason: this server's reasons prove nothing
    """

    def __init__(self) -> None:
        self.may_end = self.is_complete = self.is_closing = self.is_repeated = False
        self._has_content = False
        self._has_plain = False  # a chunk came without a reason

    def add(self, chunk: Chunk) -> None:
        """Update the state with the next chunk."""
        content = chunk.text or chunk.reasoning
        if content:
            if self.may_end:
                self.is_repeated, self.is_complete = True, False
            self._has_content, self.is_closing = True, False
        if chunk.finish_reason is None:
            if chunk.has_choice:
                self._has_plain = True
            return
        if self._has_plain and not self.is_repeated:
            self.is_complete = True
            if not self.may_end:
                self.is_closing = self._has_content and not content
        self.may_end = True


class ReplyStream:
    """The chunks of one reply, read from the lines of its response."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self._events = EventJoiner()
        self._end = ReplyEnd()
        self._is_done = False
        self._texts, self._reasonings = SurrogateJoiner(), SurrogateJoiner()

    async def read(self) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks. Raises `ModelError` after an error or an incomplete reply."""
        try:
            async with aclosing(self._lines.read()) as batches:
                async for lines in batches:
                    for chunk in self._join(lines):
                        yield chunk
                        if chunk.error is not None:
                            raise fault_of_body(chunk.error)
        except TimeoutError:
            if not self._end.is_complete:
                raise ModelError("model_silent") from None
        except (httpx2.HTTPError, aiohttp.ClientError) as error:
            if not self._end.is_complete:
                raise ModelError("model_interrupted") from error
        except LineTooLong as error:
            self._pass_over(error)
        if not self._end.may_end:
            raise ModelError("model_interrupted")
        yield Chunk(text=self._texts.rest(), reasoning=self._reasonings.rest())

    def _join(self, lines: list[bytes]) -> Iterator[Chunk]:
        """Yield the chunks in these lines, which arrived together.

        With a delta window, neighbouring chunks of text are joined, because passing a chunk on
        costs more than parsing it. Their texts become one event anyway.
        """
        joined: Chunk | None = None
        try:
            for line in lines:
                chunk = self._take(line)
                if chunk is None or (joined and settings.DELTA_WINDOW and joined.join(chunk)):
                    continue
                if joined:
                    yield joined
                joined = chunk
        except (ModelError, LineTooLong):
            if joined:
                yield joined
            raise
        if joined:
            yield joined

    def _take(self, line: bytes) -> Chunk | None:
        try:
            body = self._events.take(line)
            if body is Signal.NOTHING or self._is_done:
                return None
            if body is Signal.DONE:
                self._is_done = self._end.may_end = self._end.is_complete = True
                self._lines.close_within(LAST_BYTES)
                return None
            chunk = read_chunk(body)
        except ValueError as error:
            self._pass_over(error)
            return None
        if chunk.text:
            chunk.text = self._texts.join(chunk.text)
        if chunk.reasoning:
            chunk.reasoning = self._reasonings.join(chunk.reasoning)
        if chunk.error is not None:
            is_late = self._end.is_complete and not (chunk.text or chunk.reasoning)
            return None if is_late else chunk
        was_closing = self._end.is_closing
        self._end.add(chunk)
        if self._end.is_closing != was_closing:
            self._lines.reopen() if was_closing else self._lines.close_within(LAST_WORDS)
        return chunk

    def _pass_over(self, error: Exception) -> None:
        """Ignore unreadable data if the reply may have ended. Raises `ModelError` otherwise."""
        if not self._end.may_end or (self._end.is_repeated and not self._is_done):
            raise ModelError("model_interrupted") from error
