"""The terminal client over a scripted network: what it prints for what the service answers."""

from __future__ import annotations

import httpx
import pytest

from streams.cli.client import Client, ClientError
from streams.protocol.events import Frame, MessageCreated, RunCancelled
from streams.protocol.parts import DataPart, SourcePart, ToolCallPart, ToolResultPart
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset
from tests.unit.support.scripted_service import (
    CONVERSATION,
    MESSAGE,
    OTHER,
    RECONNECTED,
    RUN,
    USAGE,
    Open,
    Service,
    completed,
    delta,
    part,
    queued,
    snapshot,
    started,
    view,
)


def test_a_reply_is_printed_while_it_is_written(terminal: Open) -> None:
    service = Service(
        [queued(), started(), delta("one "), delta("two"), completed()], text="one two"
    )
    here = terminal(service)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one two\n", "")


def test_a_cut_neither_loses_nor_repeats_text(terminal: Open) -> None:
    service = Service(
        [queued(), started(), delta("one ")],
        [delta("two "), delta("three"), completed()],
        text="one two three",
    )
    here = terminal(service)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one \ntwo three\n", RECONNECTED)
    assert service.cursors == ["9", "12"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_stream_refused_for_now_is_requested_again(terminal: Open, status: int) -> None:
    here = terminal(Service(httpx.Response(status), [completed()], text="one"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one\n", RECONNECTED)


def test_a_heartbeat_does_not_count_as_back(terminal: Open) -> None:
    away: list[Frame] = [Heartbeat(head=None)]
    here = terminal(Service(away, away, [completed()], text="one"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one\n", RECONNECTED)


def test_a_note_says_that_the_text_of_a_lost_attempt_is_taken_back(terminal: Open) -> None:
    events = [started(), delta("old "), started(2), delta("new", attempt=2), completed(attempt=2)]
    here = terminal(Service(events, text="new"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("old \nnew\n", "taken back: the reply starts again\n")


def test_a_pipe_gets_only_the_final_text(terminal: Open) -> None:
    events = [started(), delta("old "), started(2), delta("new", attempt=2), completed(attempt=2)]
    here = terminal(Service(events, text="new"), piped=True)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("new\n", "")


LOST = StreamReset(reason="lost", channels=())


def test_after_a_lost_log_the_text_continues(terminal: Open) -> None:
    frames = [
        started(),
        delta("one "),
        LOST,
        snapshot(text="one two "),
        delta("three"),
        completed(),
    ]
    here = terminal(Service(frames, text="one two three"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one two three\n", "")


def test_a_cut_before_the_snapshot_requests_it_again(terminal: Open) -> None:
    service = Service([started(), delta("one "), LOST], [snapshot()], text="one two")
    here = terminal(service)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one \ntwo\n", RECONNECTED)
    assert service.cursors == ["9", "11"]


def test_the_stored_text_corrects_what_was_printed(terminal: Open) -> None:
    here = terminal(Service([started(), delta("one "), LOST, snapshot()], text="other"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one \nother\n", "taken back: the reply starts again\n")


def test_a_failure_is_noted_with_its_reason(terminal: Open) -> None:
    error = {"code": "model_error", "reason": "The model failed."}
    here = terminal(Service([completed()], text="one", status="failed", error=error))
    assert here.chat.ask("hi") == "failed"
    assert here.printed() == ("one\n", "failed: The model failed.\n")


def test_a_queued_reply_is_printed_without_the_replies_before_it(terminal: Open) -> None:
    frames = [queued(), delta("other", run=OTHER), completed(OTHER), delta("mine"), completed()]
    service = Service(frames, text="mine")
    here = terminal(service)
    here.chat.conversation = str(CONVERSATION)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("mine\n", "")
    path = f"/api/conversations/{CONVERSATION}/messages/"
    assert service.posts == [{"path": path, "message": "hi", "when_busy": "queue"}]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_stream_that_is_refused_ends_the_chat(terminal: Open, status: int) -> None:
    here = terminal(Service(httpx.Response(status, json={"detail": "No."})))
    with pytest.raises(ClientError, match=r"No\."):
        here.chat.ask("hi")


def test_a_page_in_place_of_a_stream_ends_the_chat(terminal: Open) -> None:
    page = httpx.Response(200, html="<p>Welcome</p>", request=httpx.Request("GET", "/"))
    with pytest.raises(ClientError, match="Is the URL right"):
        terminal(Service(page)).chat.ask("hi")


def test_control_c_before_the_response_says_that_the_message_may_be_accepted(
    terminal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    here = terminal(Service())
    monkeypatch.setattr(Client, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        here.chat.ask("hi")
    assert here.printed()[1].endswith("it may have accepted the message\n")


def test_control_c_cancels_the_run_and_prints_the_rest_of_its_text(terminal: Open) -> None:
    cut = [started(), delta("one ")]
    service = Service(cut, KeyboardInterrupt(), [snapshot()], text="one two", status="cancelled")
    here = terminal(service)
    assert here.chat.ask("hi") == "cancelled"
    assert here.printed() == ("one \ntwo\n", RECONNECTED + "cancelled\n")
    assert service.posts[1:] == [{"path": f"/api/runs/{RUN}/cancel/"}]


DELETED = httpx.Response(404, json={"detail": "Deleted."})


def test_following_prints_messages_and_replies_in_turn(terminal: Open) -> None:
    first, second = view("user", "first", id=MESSAGE), view("user", "second")
    reply, gone = view("assistant", "one!", run=RUN), StreamError(condition="gone", text="Gone.")
    service = Service(
        [snapshot(first, second, text="on")],
        [delta("e"), queued(OTHER), delta("!"), completed()],
        # The run's final event may come after the snapshot's cursor.
        [snapshot(first, reply, second, text="one!"), MessageCreated(message=second)],
        [snapshot(first, reply, second, view("assistant", "two")), gone],
        DELETED,
        text="one!",
    )
    here = terminal(service)
    here.chat.conversation = str(CONVERSATION)
    with pytest.raises(ClientError, match="Deleted"):
        here.chat.follow()
    out = "user: first\nassistant: on\ne!\nuser: second\nassistant: two\n"
    assert here.printed() == (out, RECONNECTED)
    assert service.cursors == [None, "10", None, None, None]


def test_a_cancelled_queued_run_takes_nothing_back(terminal: Open) -> None:
    cancelled = RunCancelled(run=OTHER, attempt=0, reply=None, usage=USAGE)
    events = [snapshot(text="one "), queued(OTHER), cancelled, delta("two"), completed()]
    here = terminal(Service(events, DELETED, text="one two"))
    here.chat.conversation = str(CONVERSATION)
    with pytest.raises(ClientError, match="Deleted"):
        here.chat.follow()
    assert here.printed()[0] == "assistant: one two\n"


PARTS = [
    started(),
    delta("one "),
    part(ToolCallPart(call="1", name="search", input={"q": "rivers\n"})),
    part(ToolResultPart(call="1", output="x" * 500)),
    part(ToolResultPart(call="1", error="failed")),
    part(SourcePart(source="s", title="A river\x1b[2J", url="https://example.org")),
    part(DataPart(name="chart", data={})),
    delta("two"),
    completed(),
]


def test_each_tool_call_result_and_source_is_one_line_on_a_terminal(terminal: Open) -> None:
    here = terminal(Service(PARTS, text="one two"))
    assert here.chat.ask("hi") == "completed"
    out, err = here.printed()
    assert out == "one \ntwo\n"
    assert err.splitlines() == [
        "search {'q': 'rivers\\n'}",
        "→ " + "x" * 98,
        "→ failed",
        "source: A river\ufffd[2J https://example.org",
    ]


def test_tool_calls_are_not_in_a_pipe(terminal: Open) -> None:
    here = terminal(Service(PARTS, text="one two"), piped=True)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one two\n", "")


def test_hostile_text_cannot_control_the_terminal(terminal: Open) -> None:
    hostile = ["\x1b]0;mine\x07 ", "\x1b[2J\x9b31m", "tab\t ", "end\r", "\nnext\r", "last"]
    whole = "".join(hostile)
    here = terminal(Service([started(), *map(delta, hostile), completed()], text=whole))
    assert here.chat.ask("hi") == "completed"
    shown = "\ufffd]0;mine\ufffd \ufffd[2J\ufffd31mtab\t end\nnextlast\n"
    assert here.printed() == (shown, "")


def test_a_note_cannot_control_the_terminal(terminal: Open) -> None:
    error = {"code": "model_error", "reason": "\x1b[2Jfailed"}
    here = terminal(Service([completed()], status="failed", error=error))
    assert here.chat.ask("hi") == "failed"
    assert here.printed() == ("\n", "failed: \ufffd[2Jfailed\n")
