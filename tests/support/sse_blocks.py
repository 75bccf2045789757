"""The blocks of an event stream as received, and the form that they must have.

Client libraries agree only on a subset of WHATWG HTML §9.2. A block outside this subset has
`faults`, even if this parser understands the block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

STATE_EVENTS = frozenset({"stream-reset", "stream-error", "heartbeat"})
EVENTS_WITH_ID = frozenset(
    {
        "conversation.updated",
        "message.created",
        "run.queued",
        "run.started",
        "text.delta",
        "text.snapshot",
        "reasoning.delta",
        "tool.called",
        "tool.returned",
        "source.added",
        "data.updated",
        "run.completed",
        "run.cancelled",
        "run.failed",
    }
)
SNAPSHOT = "conversation.snapshot"
ORDER = ("retry", "event", "data", "id")
ENDINGS = frozenset({"run.completed", "run.cancelled", "run.failed"})


@dataclass(frozen=True, slots=True)
class Block:
    """One block between two blank lines. `payload` is empty if `data` is not a JSON object."""

    raw: bytes
    id: int | None
    event: str
    payload: dict[str, Any]
    retry: int | None
    faults: tuple[str, ...]


@lru_cache(maxsize=65_536)  # a thousand followers of one channel receive equal blocks
def parse(raw: bytes) -> Block:
    """Read one block, without its closing blank line, and note each rule that it breaks."""
    faults: list[str] = []
    fields: dict[str, list[str]] = {}
    if b"\r" in raw or b"\0" in raw:
        faults.append("a CR or NUL on the wire")
    for line in raw.split(b"\n"):
        name, colon, value = line.partition(b": ")
        if not colon or name not in (b"id", b"event", b"data", b"retry"):
            faults.append(f"a line that is not a known field and one space: {line[:60]!r}")
            continue
        text = value.decode(errors="replace")
        if text.encode() != value:
            faults.append("bytes that are not UTF-8")
        fields.setdefault(name.decode(), []).append(text)
    if list(fields) != [name for name in ORDER if name in fields]:
        faults.append(f"lines in the order {', '.join(fields)}")
    faults += [f"{name} twice in a block" for name, values in fields.items() if len(values) > 1]
    event = fields.get("event", [""])[0]
    number = _digits(fields.get("id"), faults, "an id")
    retry = _digits(fields.get("retry"), faults, "a retry")
    payload = _payload(fields.get("data"), faults)
    if fields.keys() != {"retry"}:  # a `retry` may stand alone
        faults += _contradictions(event, number, payload)
    return Block(raw, number, event, payload, retry, tuple(faults))


def _digits(values: list[str] | None, faults: list[str], what: str) -> int | None:
    if values is None:
        return None
    value = values[0]
    if not (value.isascii() and value.isdigit() and int(value) < 2**53):
        faults.append(f"{what} that is not plain digits below 2^53: {value[:60]!r}")
        return None
    return int(value)


def _payload(values: list[str] | None, faults: list[str]) -> dict[str, Any]:
    if values is None:
        return {}
    try:
        payload = json.loads(values[0])
    except ValueError:
        faults.append(f"data that is not JSON: {values[0][:60]!r}")
        return {}
    if not isinstance(payload, dict):
        faults.append("data that is not a JSON object")
        return {}
    return payload


def _contradictions(event: str, number: int | None, payload: dict[str, Any]) -> list[str]:
    faults = []
    if not payload:
        faults.append(f"{event or 'an event'} without data")
    if event in STATE_EVENTS:
        if number is not None:
            faults.append(f"{event} with an id")
    elif event == SNAPSHOT:
        if number != payload.get("cursor"):
            faults.append(f"a snapshot whose id {number} is not its cursor")
    elif event not in EVENTS_WITH_ID:
        faults.append(f"an unknown event {event!r}")
    elif number is None:
        faults.append(f"{event} without an id")
    return faults


class Splitter:
    """Takes the stream's bytes in any portions, and returns the blocks that are complete."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, portion: bytes) -> list[Block]:
        *complete, self.rest = (self.rest + portion).split(b"\n\n")
        return [parse(raw) for raw in complete]
