"""A service with scripted streams, and a chat at a terminal with it."""

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

from streams.cli.chat import Chat, Printer
from streams.cli.client import Client
from streams.protocol.events import (
    Event,
    Frame,
    LiveRun,
    MessageView,
    PartAdded,
    RunCompleted,
    RunQueued,
    RunStarted,
    Snapshot,
    TextDelta,
    Usage,
)
from streams.protocol.parts import WholePart, text_parts
from streams.protocol.sse import encode_frame
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset

CONVERSATION, RUN, OTHER, MESSAGE = (UUID(int=n) for n in range(1, 5))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = Usage(input_tokens=1, output_tokens=3, total_tokens=4, estimated=False)


class Service:
    """Answers like the service. Each item of `streams` is one connection, which then ends."""

    def __init__(
        self,
        *streams: Sequence[Frame] | httpx.Response | KeyboardInterrupt,
        text: str = "",
        **run: Any,
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
            if isinstance(frames, KeyboardInterrupt):
                raise frames
            if isinstance(frames, httpx.Response):
                return frames
            body = b"".join(encode_frame(frame, self._id(frame)) for frame in frames)
            return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
        if request.method == "POST":
            self.posts.append({"path": path, **json.loads(request.content or "{}")})
            made = {"conversation": CONVERSATION, "run": RUN, "message": MESSAGE}
            return httpx.Response(202, json={k: str(v) for k, v in made.items()} | {"cursor": 9})
        return httpx.Response(200, json=self.run)

    def _id(self, frame: Frame) -> int | None:
        return None if isinstance(frame, StreamReset | StreamError | Heartbeat) else next(self.ids)


class Terminal:
    """A chat with a service. `printed` returns its output."""

    def __init__(
        self,
        service: Callable[[httpx.Request], httpx.Response],
        capsys: pytest.CaptureFixture[str],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        piped: bool = False,
        token: str | None = None,
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
        client = Client("http://127.0.0.1:1/", token, folder, printer.note)
        self.chat = Chat(client, printer, "", None)

    def printed(self) -> tuple[str, str]:
        out, err = self._capsys.readouterr()
        return out, err


Open = Callable[..., Terminal]


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
