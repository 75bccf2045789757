"""How a frame looks on its way: one line of JSON, in one block of Server-Sent Events.

WHATWG HTML §9.2.6 allows more than all its readers agree on, so a block here is only ever
`id`, `event` and one `data` line, each ended by LF, with `retry` before the first of a stream.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from streams.events import EVENTS, Event, Frame, LiveRun, Snapshot, Spoken, Usage

# NUL, and halves of surrogate pairs, which are no characters: UTF-8 cannot hold the one,
# PostgreSQL the other. CommonMark §2.3 replaces NUL the same way.
_UNSPEAKABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with U+FFFD for what no database and no reader can hold."""
    return _UNSPEAKABLE.sub("\ufffd", text)


def encode(frame: Frame) -> str:
    """The frame's data: one line of JSON. Text must be `clean`."""
    return orjson.dumps(frame, option=orjson.OPT_UTC_Z).decode()


def block(type: str, data: str, id: int | None = None) -> bytes:
    """The frame as it is sent. With the id in it: a cut in the middle then loses nothing."""
    place = "" if id is None else f"id: {id}\n"
    return f"{place}event: {type}\ndata: {data}\n\n".encode()


def block_of(frame: Frame, id: int | None = None) -> bytes:
    """`block` for a frame that no log has encoded."""
    return block(frame.type, encode(frame), id)


def retry(least: int, most: int) -> bytes:
    """When to come back after the connection ends, in ms: not everybody in the same second.

    It opens the block that follows. Of one that it fills alone, some make an event without data.
    """
    return b"retry: %d\n" % random.randint(least, most)


def decode(type: str, said: str | bytes) -> Event | Snapshot:
    """The event or snapshot that this data says. Unknown fields are passed over."""
    data = orjson.loads(said)
    if type == Snapshot.type:
        return _snapshot(data)
    kind = EVENTS[type]
    return kind(**{part.name: _value(part.name, data[part.name]) for part in fields(kind)})


def _value(name: str, value: Any) -> Any:
    match name, value:
        case "run" | "reply", str():
            return UUID(value)
        case "message", str():
            return UUID(value)
        case "message", dict():
            return _spoken(value)
        case "usage", dict():
            return Usage(**value)
        case _:
            return value


def _spoken(told: Mapping[str, Any]) -> Spoken:
    return Spoken(
        id=UUID(told["id"]),
        role=told["role"],
        content=told["content"],
        reply_to=told["reply_to"] and UUID(told["reply_to"]),
        run=told["run"] and UUID(told["run"]),
        created_at=datetime.fromisoformat(told["created_at"]),
    )


def _snapshot(told: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=UUID(told["id"]),
        title=told["title"],
        model=told["model"],
        created_at=datetime.fromisoformat(told["created_at"]),
        messages=tuple(_spoken(message) for message in told["messages"]),
        earlier=told["earlier"],
        runs=tuple(
            LiveRun(**{**run, "id": UUID(run["id"]), "message": UUID(run["message"])})
            for run in told["runs"]
        ),
        cursor=told["cursor"],
    )
