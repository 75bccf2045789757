"""Splits a long text into pieces that each fit into one event.

An event's data is JSON, in which some characters take six bytes. So the limit of a piece counts the
bytes of the encoded data. Each cut is between two code points.
"""

from collections.abc import Iterator
from uuid import UUID

from streams.protocol.events import TextDelta
from streams.protocol.sse import encode

LARGEST_DATA = 64 * 1024  # bytes of one event's data
LONGEST_ESCAPE = 6  # bytes that one character takes in JSON at most: \u0001
HIGHEST = 2**31 - 1  # of `attempt` and `index`: their digits count as data


def split_text(text: str) -> Iterator[str]:
    """Yield pieces whose events have at most LARGEST_DATA bytes of data. An empty text has none."""
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
