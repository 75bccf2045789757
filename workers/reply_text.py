"""The text of a reply: limited in bytes, and split into pieces that each fit into one event.

An event's data is JSON, in which some characters take six bytes. So the limit of a piece counts the
bytes of the encoded data. Each cut is between two code points.
"""

from collections.abc import Iterator
from io import StringIO
from uuid import UUID

from streams.protocol.events import TextDelta
from streams.protocol.sse import encode

LARGEST_DATA = 64 * 1024  # bytes of one event's data
LONGEST_ESCAPE = 6  # bytes that one character takes in JSON at most: \u0001
HIGHEST = 2**31 - 1  # of `attempt` and `index`: their digits count as data


class ReplyTooLong(Exception):
    """The model sent more than the reply may hold: read no more of it."""


class ReplyText:
    """The text and the reasoning of one reply, at most `most_bytes` of UTF-8 together."""

    def __init__(self, most_bytes: int) -> None:
        # Not lists of pieces: a list of a million short strings takes 50 times their bytes.
        self._text, self._reasoning = StringIO(), StringIO()
        self._room = most_bytes

    @property
    def text(self) -> str:
        return self._text.getvalue()

    @property
    def reasoning(self) -> str:
        return self._reasoning.getvalue()

    def fit(self, text: str) -> str:
        """Return the beginning of the text that still fits. All of it counts against the limit.

        If some of the text did not fit, `check` raises from now on.
        """
        room = max(self._room, 0)
        self._room -= len(text) if text.isascii() else len(text.encode())
        return text if self._room >= 0 else text.encode()[:room].decode(errors="ignore")

    def check(self) -> None:
        """Raise `ReplyTooLong` if any text did not fit."""
        if self._room < 0:
            raise ReplyTooLong

    def add_text(self, text: str) -> None:
        self._text.write(text)

    def add_reasoning(self, reasoning: str) -> None:
        self._reasoning.write(reasoning)


def split_text(text: str) -> Iterator[str]:
    """Yield pieces whose events have at most LARGEST_DATA bytes of data. None if text is empty."""
    if len(text) < LARGEST_DATA // (2 * LONGEST_ESCAPE):
        if text:
            yield text  # the usual case: too short to need measuring
        return
    begin = 0
    while begin < len(text):
        size = min(LARGEST_DATA, len(text) - begin)
        while _data_bytes(text[begin : begin + size]) > LARGEST_DATA:
            size = size * 3 // 4
        yield text[begin : begin + size]
        begin += size


def _data_bytes(text: str) -> int:
    event = TextDelta(run=UUID(int=0), attempt=HIGHEST, index=HIGHEST, text=text)
    return len(encode(event).encode())
