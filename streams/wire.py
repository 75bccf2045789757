"""How a frame looks on its way: one line of JSON, in one block of Server-Sent Events.

WHATWG HTML §9.2.6 allows more than all its readers agree on, so a block here is only ever
`id`, `event` and one `data` line, each ended by LF.
"""

import re
from collections.abc import Mapping
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


def decode(type: str, data: str | bytes) -> Event | Snapshot:
    """The event or snapshot that this data says. Unknown fields are passed over."""
    fields = orjson.loads(data)
    if type == Snapshot.type:
        return _snapshot(fields)
    kind = EVENTS[type]
    return kind(**{name: _value(name, fields[name]) for name in kind.__dataclass_fields__})


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


def _spoken(fields: Mapping[str, Any]) -> Spoken:
    return Spoken(
        id=UUID(fields["id"]),
        role=fields["role"],
        content=fields["content"],
        reply_to=fields["reply_to"] and UUID(fields["reply_to"]),
        run=fields["run"] and UUID(fields["run"]),
        created_at=datetime.fromisoformat(fields["created_at"]),
    )


def _snapshot(fields: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=UUID(fields["id"]),
        title=fields["title"],
        model=fields["model"],
        created_at=datetime.fromisoformat(fields["created_at"]),
        messages=tuple(_spoken(message) for message in fields["messages"]),
        earlier=fields["earlier"],
        runs=tuple(
            LiveRun(**{**run, "id": UUID(run["id"]), "message": UUID(run["message"])})
            for run in fields["runs"]
        ),
        cursor=fields["cursor"],
    )
