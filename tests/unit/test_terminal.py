"""The terminal client over a scripted network: what it prints for what the service answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from streams.cli.chat import Chat, Printer, harmless
from streams.cli.client import Client, ClientError
from streams.protocol.events import (
    Event,
    Frame,
    LiveRun,
    MessageCreated,
    MessageView,
    PartAdded,
    RunCancelled,
    RunCompleted,
    RunQueued,
    RunStarted,
    Snapshot,
    TextDelta,
    Usage,
)
from streams.protocol.parts import (
    DataPart,
    SourcePart,
    ToolCallPart,
    ToolResultPart,
    WholePart,
    text_parts,
)
from streams.protocol.sse import encode_frame
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset

CONVERSATION, RUN, OTHER, MESSAGE = (UUID(int=n) for n in range(1, 5))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=3, total_tokens=4, estimated=False)


class Service:
    """Answers like the service. Each item of `streams` is one connection, and is then cut."""

    def __init__(
        self, *streams: Sequence[Frame] | httpx.Response, text: str = "", **run: Any
    ) -> None:
        self.streams = list(streams)
        self.run = {
            "status": "completed",
            "reply": str(uuid4()),
            "text": text,
            "error": None,
            "usage": {"output_tokens": 3},
        } | run
        self.cursors: list[str | None] = []
        self.posts: list[dict[str, Any]] = []
        self.ids = count(10)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/":
            return httpx.Response(200, headers={"Set-Cookie": "csrftoken=c; Path=/"})
        if path.endswith("/events/"):
            self.cursors.append(request.headers.get("Last-Event-ID"))
            frames = self.streams.pop(0)
            if isinstance(frames, httpx.Response):
                return frames
            body = b"".join(encode_frame(frame, self._id(frame)) for frame in frames)
            return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
        if request.method == "POST":
            self.posts.append({"path": path, **json.loads(request.content)})
            made = {"conversation": CONVERSATION, "run": RUN, "message": MESSAGE}
            return httpx.Response(202, json={k: str(v) for k, v in made.items()} | {"cursor": 9})
        return httpx.Response(200, json=self.run)

    def _id(self, frame: Frame) -> int | None:
        return None if isinstance(frame, StreamReset | StreamError | Heartbeat) else next(self.ids)


class Terminal:
    """A chat with a service. `out` and `err` are what it has printed."""

    def __init__(
        self,
        service: Service,
        capsys: pytest.CaptureFixture[str],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        piped: bool = False,
    ) -> None:
        self._capsys = capsys
        monkeypatch.setattr(time, "sleep", lambda _: None)
        real = httpx.Client
        monkeypatch.setattr(
            httpx,
            "Client",
            lambda **options: real(**options, transport=httpx.MockTransport(service)),
        )
        printer = Printer()
        printer.live = not piped
        client = Client("http://127.0.0.1:1/", None, folder, printer.note)
        self.chat = Chat(client, printer, "", {"system": None, "model": None})

    def printed(self) -> tuple[str, str]:
        out, err = self._capsys.readouterr()
        return out, err


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Open:
    return lambda service, **how: Terminal(service, capsys, tmp_path, monkeypatch, **how)


def queued(run: UUID = RUN) -> Event:
    return RunQueued(run=run, message=MESSAGE)


def started(attempt: int = 1) -> Event:
    return RunStarted(run=RUN, attempt=attempt, model="m")


def delta(text: str, *, attempt: int = 1, run: UUID = RUN) -> Event:
    return TextDelta(run=run, attempt=attempt, index=0, text=text)


def completed(run: UUID = RUN, *, attempt: int = 1) -> Event:
    return RunCompleted(run=run, attempt=attempt, reply=None, finish_reason="stop", usage=USAGE)


def part(part: WholePart) -> Event:
    return PartAdded(run=RUN, attempt=1, index=1, part=part)


def view(role: Any, content: str, id: UUID | None = None, run: UUID | None = None) -> MessageView:
    return MessageView(
        id=id or uuid4(),
        role=role,
        content=content,
        parts=text_parts(content),
        reply_to=None,
        run=run,
        created_at=NOW,
    )


def snapshot(*messages: MessageView, text: str | None = None) -> Snapshot:
    live = LiveRun(
        id=RUN,
        status="running",
        attempt=1,
        message=MESSAGE,
        text=text or "",
        reasoning="",
        parts=text_parts(text or ""),
    )
    return Snapshot(
        id=CONVERSATION,
        title="",
        model="m",
        created_at=NOW,
        messages=messages,
        earlier=None,
        runs=() if text is None else (live,),
        unanswered=(),
        cursor=9,
    )


RECONNECTED = "reconnecting…\nback, nothing lost\n"


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


def test_a_stream_without_redis_does_not_count_as_back(terminal: Open) -> None:
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
LOST_NOTE = "the event log was lost: this is the text as it is now\n"


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
    assert here.printed() == ("one \ntwo three\n", LOST_NOTE)


def test_a_cut_before_the_snapshot_requests_it_again(terminal: Open) -> None:
    service = Service([started(), delta("one "), LOST], [snapshot()], text="one two")
    here = terminal(service)
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one \ntwo\n", LOST_NOTE + RECONNECTED)
    assert service.cursors == ["9", None]


def test_the_stored_text_corrects_what_was_printed(terminal: Open) -> None:
    here = terminal(Service([started(), delta("one "), LOST, snapshot()], text="other"))
    assert here.chat.ask("hi") == "completed"
    assert here.printed() == ("one \nother\n", LOST_NOTE + "taken back: the reply starts again\n")


def test_a_failure_is_noted_with_its_reason(terminal: Open) -> None:
    error = {"code": "model_error", "reason": "The model failed."}
    here = terminal(Service([completed()], text="one", status="failed", error=error))
    assert here.chat.ask("hi") == "failed"
    assert here.printed() == ("one\n", "failed: The model failed. (3 tokens)\n")


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


def test_following_prints_messages_and_replies_in_turn(terminal: Open) -> None:
    first, second = view("user", "first", id=MESSAGE), view("user", "second")
    reply, gone = view("assistant", "one!", run=RUN), StreamError(condition="gone", text="Deleted.")
    service = Service(
        [snapshot(first, second, text="on")],
        [delta("e"), queued(OTHER), delta("!"), completed()],
        # The run's final event may come after the snapshot's cursor.
        [snapshot(first, reply, second, text="one!"), MessageCreated(message=second)],
        [snapshot(first, reply, second, view("assistant", "two")), gone],
        text="one!",
    )
    here = terminal(service)
    here.chat.conversation = str(CONVERSATION)
    with pytest.raises(ClientError, match="Deleted"):
        here.chat.follow(forever=True)
    out = "user: first\nassistant: on\ne!\nuser: second\nassistant: two\n"
    assert here.printed() == (out, RECONNECTED)
    assert service.cursors == [None, "10", None, None]


def test_a_cancelled_queued_run_takes_nothing_back(terminal: Open) -> None:
    cancelled = RunCancelled(run=OTHER, attempt=0, reply=None, usage=USAGE)
    events = [snapshot(text="one "), queued(OTHER), cancelled, delta("two"), completed()]
    here = terminal(Service(events, [snapshot()], text="one two"))
    here.chat.conversation = str(CONVERSATION)
    here.chat.follow(forever=False)
    assert here.printed() == ("assistant: one two\n", "")


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
    here.chat._out._dim = True
    assert here.chat.ask("hi") == "completed"
    out, err = here.printed()
    assert out == "one \ntwo\n"
    assert err.splitlines() == [
        f"\x1b[2m{line}\x1b[0m"
        for line in (
            'search {"q": "rivers\\n"}',
            '→ "' + "x" * 96 + "…",
            "→ failed",
            "source: A river\ufffd[2J https://example.org",
            "completed (3 tokens)",
        )
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
    assert harmless(whole) + "\n" == shown


def test_a_note_cannot_control_the_terminal(terminal: Open) -> None:
    error = {"code": "model_error", "reason": "\x1b[2Jfailed"}
    here = terminal(Service([completed()], status="failed", error=error))
    assert here.chat.ask("hi") == "failed"
    assert here.printed() == ("", "failed: \ufffd[2Jfailed (3 tokens)\n")


def test_an_empty_cookie_file_starts_a_new_session(terminal: Open, tmp_path: Path) -> None:
    (cookies := tmp_path / "chat-127.0.0.1-1.cookies").touch()
    assert terminal(Service([completed()])).chat.ask("hi") == "completed"
    assert "csrftoken" in cookies.read_text()
