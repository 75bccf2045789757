"""Encodes frames for the wire: one line of JSON, in one block of Server-Sent Events.

Clients disagree on parts of WHATWG HTML §9.2.6, so every block has the same simple form: `event`,
one `data` line and `id`, in this order, each ended by LF. `retry` precedes the first block of a
stream.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from streams.protocol.events import (
    EVENTS,
    Event,
    Frame,
    MessageCreated,
    PartAdded,
    Snapshot,
    TextSnapshot,
)
from streams.protocol.parts import EVENT_KINDS, AnyPart, part_fields, part_json, part_of

# NUL, which PostgreSQL cannot store, and lone surrogates, which UTF-8 cannot encode. CommonMark
# §2.3 replaces NUL the same way.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

HOLDS_PARTS = (PartAdded, TextSnapshot, MessageCreated, Snapshot)  # frames with parts in them

DONE = b"data: [DONE]\n\n"  # how some clients' streams end
PIECE = 16_384  # characters that `clean` replaces in one call

# These are no line ends in the standard, but clients that split lines like Python's
# `str.splitlines` treat them as such. JSON has them only in strings, where they can be escaped.
_LINE_SEPARATORS = {end.encode(): b"\\u%04x" % ord(end) for end in "\x85\u2028\u2029"}


def clean(text: str) -> str:
    """The text with U+FFFD in place of NUL and lone surrogates, which cannot be stored or sent."""
    if _UNSTORABLE.search(text) is None:
        return text
    # Piece by piece, because no other thread runs during a call of a regular expression.
    starts = range(0, len(text), PIECE)
    return "".join(_UNSTORABLE.sub("\ufffd", text[at : at + PIECE]) for at in starts)


def clean_json(value: object) -> Any:
    """The JSON with each text and key in it `clean`."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean_json(key): clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [clean_json(item) for item in value]
        case _:
            return value


def encode(frame: Frame) -> str:
    """The frame's data as one line of JSON, for any client. Its text must be `clean`."""
    options = orjson.OPT_UTC_Z
    if isinstance(frame, HOLDS_PARTS):
        options |= orjson.OPT_PASSTHROUGH_DATACLASS
    return _one_line(orjson.dumps(frame, default=as_json, option=options)).decode()


def json_line(value: object) -> bytes:
    """The value as one line of JSON, for any client of a stream."""
    return _one_line(orjson.dumps(value))


def data_block(value: object) -> bytes:
    """One block of another client's stream: JSON alone, without type and id."""
    return b"data: " + json_line(value) + b"\n\n"


def _one_line(json: bytes) -> bytes:
    if not json.isascii():
        for end, escaped in _LINE_SEPARATORS.items():
            if end in json:  # these are rare, and a search is quicker than a replacement
                json = json.replace(end, escaped)
    return json


def as_json(value: Any) -> dict[str, Any]:
    """The dataclass as a JSON object, for orjson's `default`. Parts have a form of their own."""
    if isinstance(value, AnyPart):
        return part_json(value)
    if isinstance(value, PartAdded):
        place = {"run": value.run, "attempt": value.attempt, "index": value.index}
        return place | part_fields(value.part)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def encode_event(type: str, data: str, id: int | None = None) -> bytes:
    """One block of the stream. The id is its last line.

    Some clients adopt an `id` before its block ends, though WHATWG HTML §9.2.6 forbids it. With the
    id first, such a client would skip an event if the connection broke between its id and data.
    """
    id_line = "" if id is None else f"id: {id}\n"
    return f"event: {type}\ndata: {data}\n{id_line}\n".encode()


def encode_frame(frame: Frame, id: int | None = None) -> bytes:
    """`encode_event` for a frame that is not encoded yet."""
    return encode_event(frame.type, encode(frame), id)


def split_blocks(piece: bytes) -> Iterator[dict[bytes, bytes]]:
    """The fields of each block in a piece of a stream; a `retry` field may stand alone."""
    for block in piece.split(b"\n\n"):
        if fields := dict(line.split(b": ", 1) for line in block.split(b"\n") if line):
            yield fields


def retry_field(min_ms: int, max_ms: int) -> bytes:
    """The `retry` line, with a random time in ms, so that not all clients reconnect at once.

    The caller writes it before a block. Some clients would take a block that has only `retry` for
    an event without data.
    """
    return b"retry: %d\n" % random.randint(min_ms, max_ms)


def decode(type: str, data: str | bytes) -> Event | Snapshot:
    """The event or snapshot in this data; unknown fields are ignored.

    Raises `KeyError` for an unknown type, and `ValueError` for invalid data.
    """
    if type not in EVENT_KINDS:
        return _reader(type).validate_json(data)
    values = orjson.loads(data)
    part = part_of(values | {"type": EVENT_KINDS[type].type})
    return _reader(type).validate_python(values | {"part": part})


@cache
def _reader(type: str) -> TypeAdapter[Event | Snapshot]:
    return TypeAdapter(Snapshot if type == Snapshot.type else EVENTS[type])
