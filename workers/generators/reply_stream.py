"""The chunks of one reply, and the decision whether the reply came to its end.

What may end a reply: `[DONE]`, a finish reason, the end of the body, silence, a broken connection.
Some servers send a finish reason with every chunk, so a reason beside a text is no end by itself,
and a reason counts for less where it was seen before.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import aiohttp
import httpx2

from workers.generators.chunks import Chunk, read_chunk
from workers.generators.errors import ModelError, fault_of_body
from workers.generators.sse_events import EventJoiner, Signal
from workers.generators.sse_lines import LineReader, LineTooLong
from workers.generators.surrogates import SurrogateJoiner

LAST_WORDS = 2.0  # seconds after the finish reason for the token counts and the end
LAST_BYTES = 0.2  # seconds after [DONE] for the body's end, without which no connection is reused


class ReplyEnd:
    """What the finish reasons heard so far say about the end of the reply.

    `is_heard`    a reason came: an orderly end of the body is the end of the reply
    `is_whole`    whatever follows, the reply is whole: the server does not say a reason each time
    `is_closing`  the reason stood alone: the server has LAST_WORDS left
    `is_repeated` text came after a reason: this server's reasons say nothing
    """

    def __init__(self) -> None:
        self.is_heard = self.is_whole = self.is_closing = self.is_repeated = False
        self._has_words = False
        self._has_plain = False  # a chunk came without a reason

    def note(self, chunk: Chunk) -> None:
        """Take one more chunk into account."""
        words = chunk.text or chunk.reasoning
        if words:
            if self.is_heard:
                self.is_repeated, self.is_whole = True, False
            self._has_words, self.is_closing = True, False
        if chunk.finish_reason is None:
            if chunk.has_choice:
                self._has_plain = True
            return
        if self._has_plain and not self.is_repeated:
            self.is_whole = True
            if not self.is_heard:
                self.is_closing = self._has_words and not words
        self.is_heard = True


class ReplyStream:
    """Reads the chunks of one reply."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self._events = EventJoiner()
        self._end = ReplyEnd()
        self._is_done = False
        self._texts, self._thoughts = SurrogateJoiner(), SurrogateJoiner()

    async def read(self) -> AsyncGenerator[Chunk, None]:
        """The chunks. Raises ModelFault unless the reply comes to its end."""
        try:
            async with aclosing(self._lines.read()) as arriving:
                async for lines in arriving:
                    for line in lines:
                        if chunk := self._take(line):
                            yield chunk
                            if chunk.error is not None:
                                raise fault_of_body(chunk.error)
        except TimeoutError:
            if not self._end.is_whole:
                raise ModelError("model_silent") from None
        except (httpx2.HTTPError, aiohttp.ClientError) as error:
            if not self._end.is_whole:
                raise ModelError("model_interrupted") from error
        except LineTooLong as error:
            self._pass_over(error)
        if not self._end.is_heard:
            raise ModelError("model_interrupted")
        yield Chunk(text=self._texts.rest(), reasoning=self._thoughts.rest())

    def _take(self, line: bytes) -> Chunk | None:
        try:
            body = self._events.take(line)
            if body is Signal.NOTHING or self._is_done:
                return None
            if body is Signal.DONE:
                self._is_done = self._end.is_heard = self._end.is_whole = True
                self._lines.close_within(LAST_BYTES)
                return None
            chunk = read_chunk(body)
        except ValueError as error:
            self._pass_over(error)
            return None
        if chunk.text:
            chunk.text = self._texts.join(chunk.text)
        if chunk.reasoning:
            chunk.reasoning = self._thoughts.join(chunk.reasoning)
        if chunk.error is not None:
            is_late = self._end.is_whole and not (chunk.text or chunk.reasoning)
            return None if is_late else chunk
        was_closing = self._end.is_closing
        self._end.note(chunk)
        if self._end.is_closing != was_closing:
            self._lines.reopen() if was_closing else self._lines.close_within(LAST_WORDS)
        return chunk

    def _pass_over(self, error: Exception) -> None:
        """Go on after what cannot be understood, if the reply is whole as far as is known."""
        if not self._end.is_heard or (self._end.is_repeated and not self._is_done):
            raise ModelError("model_interrupted") from error
