"""How a frame looks on its way: one line of JSON, in one block of Server-Sent Events.

WHATWG HTML §9.2.6 allows more than all its readers agree on, so a block here is only ever
`event`, one `data` line and `id`, in this order, each ended by LF, with `retry` before the first
of a stream.
"""

import random
import re
from functools import cache

import orjson
from pydantic import TypeAdapter

from streams.protocol.events import EVENTS, Event, Frame, Snapshot

# NUL, and halves of surrogate pairs, which are no characters: UTF-8 cannot hold the one,
# PostgreSQL the other. CommonMark §2.3 replaces NUL the same way.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

PIECE = 16_384  # characters cleaned in one go

# No ends of a line to the standard, but to readers that split text as Python's `str.splitlines`
# does. In JSON they can only stand inside of strings, where they may be escaped.
_LINE_SEPARATORS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def clean(text: str) -> str:
    """`text` with U+FFFD for what no database and no reader can hold."""
    if _UNSTORABLE.search(text) is None:
        return text
    # Piece by piece: no other thread runs while an expression is at work.
    starts = range(0, len(text), PIECE)
    return "".join(_UNSTORABLE.sub("\ufffd", text[at : at + PIECE]) for at in starts)


def encode(frame: Frame) -> str:
    """The frame's data: one line of JSON, to whoever reads it. Text must be `clean`."""
    line = orjson.dumps(frame, option=orjson.OPT_UTC_Z).decode()
    if not line.isascii():
        for end, escaped in _LINE_SEPARATORS.items():
            if end in line:  # seldom, and to look is quicker
                line = line.replace(end, escaped)
    return line


def encode_event(type: str, data: str, id: int | None = None) -> bytes:
    """The frame as it is sent: the id is the last line of the block that it counts.

    Some readers take over an `id` line before its block ends (WHATWG HTML §9.2.6 forbids it). Such
    a reader would skip an event that is cut between its id and its data.
    """
    place = "" if id is None else f"id: {id}\n"
    return f"event: {type}\ndata: {data}\n{place}\n".encode()


def encode_frame(frame: Frame, id: int | None = None) -> bytes:
    """`block` for a frame that no log has encoded."""
    return encode_event(frame.type, encode(frame), id)


def retry_field(min_ms: int, max_ms: int) -> bytes:
    """When to come back after the connection ends, in ms: not everybody in the same second.

    It opens the block that follows. Of one that it fills alone, some make an event without data.
    """
    return b"retry: %d\n" % random.randint(min_ms, max_ms)


def decode(type: str, data: str | bytes) -> Event | Snapshot:
    """The event or snapshot that this data says. Unknown fields are passed over."""
    return _reader(type).validate_json(data)


@cache
def _reader(type: str) -> TypeAdapter[Event | Snapshot]:
    return TypeAdapter(Snapshot if type == Snapshot.type else EVENTS[type])
