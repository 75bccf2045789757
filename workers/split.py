"""Splits a long text into pieces of which each fits into one event.

An event's data is JSON, in which some characters take six bytes. So the bound is that of the
encoded data, and a cut is always between two code points.
"""

from collections.abc import Iterator
from uuid import UUID

from streams.protocol.events import TextDelta
from streams.protocol.sse import encode

LARGEST_DATA = 64 * 1024  # bytes of one event's data
LONGEST_ESCAPE = 6  # bytes that one character takes in JSON at most: \u0001
HIGHEST = 2**31 - 1  # of `attempt` and `index`, whose digits are part of the data


def split(text: str) -> Iterator[str]:
    """The text in pieces whose event has at most LARGEST_DATA bytes of data; none if empty."""
    if len(text) < LARGEST_DATA // (2 * LONGEST_ESCAPE):
        if text:
            yield text  # which is nearly always so, and nothing is measured
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
