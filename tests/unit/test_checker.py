"""The judge acquits what the contract allows, and names everything that it forbids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.checker import check
from tests.support.recording import Received
from tests.support.sse_blocks import parse
from tests.unit.support.wire_recordings import (
    REPLY,
    RUN,
    STORY,
    TALK,
    TEXT,
    TRUTH,
    WORDS,
    completed,
    delta,
    heard,
    judged,
    numbers,
    recording,
    snapshot,
    started,
    texts,
    wire,
)


def test_a_whole_recording_is_clean() -> None:
    report = heard(*STORY)
    assert (report.clean, report.faults) == (True, [])
    assert (report.runs, report.followers, report.connections, report.events) == (1, 1, 1, 7)


@pytest.mark.parametrize("cut", range(len(STORY)))
def test_a_recording_over_two_connections_is_clean(cut: int) -> None:
    assert judged(recording(("0", STORY[:cut]), (str(cut), STORY[cut:]))).clean


@pytest.mark.parametrize(("text", "then"), [("", 3), ("Hel", 4), ("Hello ", 5), (TEXT, 6)])
def test_a_snapshot_and_the_events_after_it_are_clean(text: str, then: int) -> None:
    report = heard(snapshot(then, text=text), *STORY[then:], cursor=None)
    assert (report.clean, report.faults) == (True, [])


def test_a_snapshot_after_the_final_event_is_clean() -> None:
    assert heard(snapshot(7), cursor=None).clean


def test_a_run_in_a_snapshot_can_get_its_queued_event_afterwards() -> None:
    waiting = snapshot(1, text="", status="queued").replace(b'"attempt": 1', b'"attempt": 0')
    assert heard(waiting, *STORY[1:], cursor=None).clean


@pytest.mark.parametrize("cursor", range(1, 7))
def test_a_cursor_in_the_middle_is_clean(cursor: int) -> None:
    report = heard(*STORY[cursor:], cursor=str(cursor))
    assert (report.clean, report.faults) == (True, [])


def test_a_second_attempt_restarts_the_reply() -> None:
    again = [started(6, 2), *(delta(7 + n, n, word, 2) for n, word in enumerate(WORDS))]
    truth = replace(TRUTH, conversation={**TRUTH.conversation, "cursor": 10})
    assert judged(recording(("0", [*STORY[:5], *again, completed(10, 2)])), truth=truth).clean


def test_a_text_snapshot_replaces_the_deltas_before_it() -> None:
    place: dict[str, Any] = {"run": RUN, "attempt": 1, "index": 1}
    whole = wire("text.snapshot", 6, **place, text="Hello ", parts=texts("Hello "))
    truth = replace(TRUTH, conversation={**TRUTH.conversation, "cursor": 8})
    assert judged(
        recording(("0", [*STORY[:5], whole, delta(7, 2, "you"), completed(8)])), truth=truth
    ).clean


def test_a_lost_event_is_counted() -> None:
    assert numbers(heard(*STORY[:4], *STORY[6:])) == (2, 0, 0)


def test_an_event_lost_between_two_connections_is_counted() -> None:
    assert numbers(judged(recording(("0", STORY[:2]), ("2", STORY[3:])))) == (1, 0, 0)


def test_an_event_lost_after_the_first_cursor_is_counted() -> None:
    assert numbers(heard(*STORY[3:], cursor="2")) == (1, 0, 0)


def test_an_event_lost_at_the_end_is_counted() -> None:
    assert numbers(heard(*STORY[:5])) == (2, 0, 0)


def test_a_reader_that_left_early_has_lost_nothing() -> None:
    assert heard(*STORY[:5], whole=False).clean


def test_a_repeated_event_is_counted() -> None:
    assert numbers(judged(recording(("0", STORY[:4]), ("4", STORY[2:])))) == (0, 2, 0)


def test_an_event_out_of_order_is_counted() -> None:
    report = heard(*STORY[:3], STORY[4], STORY[3], *STORY[5:])
    assert numbers(report) == (1, 0, 1)


def test_a_snapshot_without_a_reason_is_a_fault() -> None:
    assert not heard(*STORY[:4], snapshot(4, text="Hel"), *STORY[4:]).clean


def test_a_stream_without_a_cursor_must_begin_with_a_snapshot() -> None:
    assert not heard(*STORY, cursor=None).clean


def test_a_reset_is_a_fault_unless_the_log_was_lost() -> None:
    reset = wire("stream-reset", reason="lost", channels=["c"])
    told = recording(("0", [*STORY[:4], reset, snapshot(900, text="Hello "), delta(901, 2, "you")]))
    told.connections[0].received.append(Received(parse(completed(902)), 9.0))
    truth = replace(TRUTH, conversation={**TRUTH.conversation, "cursor": 902})
    assert judged(told, truth=truth, resets=True).clean
    assert not judged(told, truth=truth).clean
    assert check("a test", [told], {TALK: truth}, resets_in={TALK}).clean
    assert not check("a test", [told], {TALK: truth}, resets_in={"another"}).clean


def test_a_reset_must_be_followed_by_a_snapshot() -> None:
    reset = wire("stream-reset", reason="lost", channels=["c"])
    assert not judged(recording(("0", [*STORY[:4], reset, *STORY[4:]])), resets=True).clean


def test_one_id_is_one_event_for_all_readers() -> None:
    other = [*STORY[:3], delta(4, 0, "Hal"), *STORY[4:]]
    faults = judged(recording(("0", STORY)), recording(("0", other), whole=False)).faults
    assert "two events under id 4" in faults[0]


def test_a_late_delta_of_an_older_attempt_is_a_fault() -> None:
    late = [started(6, 2), delta(7, 2, "you", 1)]
    assert any("after attempt 2" in fault for fault in heard(*STORY[:5], *late).faults)


def test_a_delta_after_the_final_event_is_a_fault() -> None:
    assert any("after its ending" in fault for fault in heard(*STORY, delta(8, 3, "!")).faults)


def test_a_second_final_event_is_a_fault() -> None:
    assert any("2 endings" in fault for fault in heard(*STORY, completed(8)).faults)


def test_a_missing_delta_index_is_a_fault_even_with_perfect_ids() -> None:
    assert any("index 2 after 0" in f for f in heard(*STORY[:4], delta(5, 2, "you")).faults)


def test_a_text_that_differs_from_the_stored_one_is_a_fault() -> None:
    report = heard(*STORY[:3], delta(4, 0, "Hal"), *STORY[4:])
    assert any("as it was told differs at" in fault for fault in report.faults)


def test_a_missing_final_event_is_a_fault() -> None:
    truth = replace(TRUTH, conversation={**TRUTH.conversation, "cursor": 6})
    faults = judged(recording(("0", STORY[:6])), truth=truth).faults
    assert any("its ending was not said" in fault for fault in faults)


@pytest.mark.parametrize(
    "foreign",
    [
        wire("run.started", 8, run="run-9", attempt=1, model="m"),
        wire("message.created", 8, message={"id": "message-9"}),
        snapshot(8).replace(TALK.encode(), b"conversation-9"),
    ],
)
def test_an_event_of_another_conversation_is_a_fault(foreign: bytes) -> None:
    assert not heard(*STORY, foreign).clean


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_a_stream_that_is_refused_is_a_fault(status: int) -> None:
    told = recording(("0", STORY))
    told.connections[0].status = status
    assert not judged(told).clean


def test_a_cancelled_reply_keeps_its_text_so_far() -> None:
    truth = replace(
        TRUTH, runs={RUN: {"status": "cancelled", "reply": REPLY}}, scripts={RUN: TEXT + " all"}
    )
    cancelled = wire("run.cancelled", 7, run=RUN, attempt=1, reply=REPLY)
    assert judged(recording(("0", [*STORY[:6], cancelled])), truth=truth).clean


def test_a_recovery_lasts_from_the_break_to_the_next_event() -> None:
    told = recording(("0", STORY[:2]), ("2", STORY[2:]))
    report = check("a test", [told], {TALK: TRUTH}, broken_at=[2.0])
    assert report.recoveries == [8.0]
    assert report.numbers()["recovery"] == {"p50": 8.0, "p95": 8.0, "max": 8.0}
    assert "recovery max 8.00 s" in str(report)
