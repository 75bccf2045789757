"""The checker compares the parts of replies and the rows of runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.checker import Truth
from tests.unit.support.wire_recordings import (
    QUESTION,
    REPLY,
    RUN,
    SAID,
    STORY,
    TALK,
    TRUTH,
    completed,
    judged,
    recording,
    wire,
)

CALL = {"call": "c", "name": "clock", "input": {}}
RESULT = {"call": "c", "output": "noon"}
PARTS = [
    {"type": "data", "name": "found", "id": "a", "data": 2},
    {"type": "text", "text": "Hello "},
    {"type": "tool_call", **CALL},
    {"type": "tool_result", **RESULT},
    {"type": "text", "text": "you"},
]
PIECES: list[tuple[str, dict[str, Any]]] = [
    ("data.updated", {"name": "found", "id": "a", "data": 1}),
    ("text.delta", {"text": "Hel"}),
    ("text.delta", {"text": "lo "}),
    ("tool.called", CALL),
    ("data.updated", {"name": "found", "id": "a", "data": 2}),
    ("tool.returned", RESULT),
    ("text.delta", {"text": "you"}),
]
TOLD = [
    *STORY[:3],
    *(
        wire(event, 4 + n, run=RUN, attempt=1, index=n, **fields)
        for n, (event, fields) in enumerate(PIECES)
    ),
    completed(11),
]


def with_parts(parts: list[dict[str, Any]]) -> Truth:
    messages = [QUESTION, {**SAID, "parts": parts}]
    return replace(TRUTH, conversation={"id": TALK, "cursor": 11, "messages": messages})


@pytest.mark.parametrize("cursor", range(11))
def test_a_reply_of_parts_is_clean_from_every_cursor(cursor: int) -> None:
    report = judged(recording((str(cursor), TOLD[cursor:])), truth=with_parts(PARTS))
    assert (report.clean, report.faults) == (True, [])


@pytest.mark.parametrize("place", range(len(PARTS)))
def test_a_part_that_differs_from_the_stored_one_is_a_fault(place: int) -> None:
    other: dict[str, Any] = {"type": "source", "source": "s", "title": "A source"}
    stored = [*PARTS[:place], other, *PARTS[place:]]
    report = judged(recording(("0", TOLD)), truth=with_parts(stored))
    assert any("as it was told differs" in fault for fault in report.faults)


def test_an_open_call_in_the_stored_reply_is_a_fault() -> None:
    report = judged(recording(("0", TOLD)), truth=with_parts(PARTS[:3] + PARTS[4:]))
    assert any("call c is open" in fault for fault in report.faults)


def test_a_missing_part_is_a_fault_even_with_perfect_ids() -> None:
    missing = wire("heartbeat", head=7)
    told = [*TOLD[:6], missing, *TOLD[7:]]
    report = judged(recording(("0", told)), truth=with_parts(PARTS))
    assert any("index 4 after 2" in fault for fault in report.faults)


@pytest.mark.parametrize(
    "stored",
    [
        {"status": "running", "reply": None},
        {"status": "cancelled", "reply": REPLY},
        {"status": "completed", "reply": REPLY},
    ],
)
def test_the_rows_are_checked_as_well(stored: dict[str, Any]) -> None:
    truth = replace(TRUTH, runs={RUN: stored}, scripts={RUN: "Hello me"})
    assert not judged(truth=truth).clean
