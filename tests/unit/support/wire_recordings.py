"""Recordings of one conversation's wire, and the checker's reports on them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.checker import Truth, check
from tests.support.recording import Connection, Ended, Received, Recording
from tests.support.report import Report
from tests.support.sse_blocks import parse

TALK, RUN, MESSAGE, REPLY = "conversation-1", "run-1", "message-1", "reply-1"
WORDS = ("Hel", "lo ", "you")
TEXT = "".join(WORDS)


def wire(event: str, number: int | None = None, **payload: Any) -> bytes:
    lines = [f"event: {event}", f"data: {json.dumps(payload)}"]
    lines += [] if number is None else [f"id: {number}"]
    return "\n".join(lines).encode()


def delta(number: int, index: int, text: str, attempt: int = 1) -> bytes:
    return wire("text.delta", number, run=RUN, attempt=attempt, index=index, text=text)


def started(number: int, attempt: int = 1) -> bytes:
    return wire("run.started", number, run=RUN, attempt=attempt, model="m")


def completed(number: int, attempt: int = 1) -> bytes:
    return wire("run.completed", number, run=RUN, attempt=attempt, reply=REPLY)


def texts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


QUESTION = {"id": MESSAGE, "role": "user", "content": "?", "parts": texts("?"), "run": None}
SAID = {"id": REPLY, "role": "assistant", "content": TEXT, "parts": texts(TEXT), "run": RUN}

STORY = [
    wire("message.created", 1, message={"id": MESSAGE}),
    wire("run.queued", 2, run=RUN, message=MESSAGE),
    started(3),
    *(delta(4 + n, n, word) for n, word in enumerate(WORDS)),
    completed(7),
]


def snapshot(cursor: int | None, *, text: str | None = None, status: str = "running") -> bytes:
    """A snapshot of the active run with this text, or without `text` one after the run's end."""
    live = {"id": RUN, "status": status, "attempt": 1, "text": text, "parts": texts(text or "")}
    payload: dict[str, Any] = {
        "id": TALK,
        "messages": [QUESTION],
        "runs": [],
        "cursor": cursor,
    }
    if text is None:
        payload["messages"].append(SAID)
    else:
        payload["runs"].append(live)
    return wire("conversation.snapshot", cursor, **payload)


def recording(*connections: tuple[str | None, list[bytes]], whole: bool = True) -> Recording:
    kept = [
        Connection(
            requested_at=10.0 * n,
            cursor=cursor,
            status=200,
            received=[Received(parse(raw), 10.0 * n + i) for i, raw in enumerate(raws)],
            ended=Ended.DROPPED,
        )
        for n, (cursor, raws) in enumerate(connections)
    ]
    return Recording(TALK, kept, whole)


TRUTH = Truth(
    conversation={
        "id": TALK,
        "cursor": 7,
        "messages": [QUESTION, SAID],
    },
    runs={RUN: {"id": RUN, "status": "completed", "reply": REPLY}},
    scripts={RUN: TEXT},
)


def judged(*recordings: Recording, truth: Truth = TRUTH, resets: bool = False) -> Report:
    return check("a test", recordings, {TALK: truth}, resets_allowed=resets)


def heard(*raws: bytes, cursor: str | None = "0", whole: bool = True) -> Report:
    return judged(recording((cursor, list(raws)), whole=whole))


def numbers(report: Report) -> tuple[int, int, int]:
    return report.lost, report.repeated, report.out_of_order
