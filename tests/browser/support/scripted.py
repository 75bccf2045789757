"""A conversation that a test writes event by event. It answers the browser's requests itself.

The frames are the protocol's own, and a snapshot is the protocol's fold of the events so far. The
stream is a real connection to a server of the test. All other requests of the page go to the
service.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from playwright.async_api import BrowserContext, Error, Route

from streams.protocol.events import (
    Delta,
    Event,
    LiveRun,
    MessageCreated,
    MessageView,
    PartAdded,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunQueued,
    RunStarted,
    Snapshot,
    TextDelta,
    TextSnapshot,
    Usage,
)
from streams.protocol.fold import Reply
from streams.protocol.parts import Part, ReasoningPart, TextPart, text_of, text_parts
from streams.protocol.sse import encode, encode_frame
from tests.browser.support.run_body import run_body
from tests.support.fold import ConversationState, fold
from tests.support.ports import HOST

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=12, output_tokens=30, total_tokens=42, estimated=False)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
QUESTION = "What time is it?"


class Scripted:
    """One conversation with one run, sent event by event to all readers of a browser session."""

    def __init__(self, question: str = QUESTION, title: str = "A question") -> None:
        self.id, self.run, self.message = uuid4(), uuid4(), uuid4()
        self.path = f"/c/{self.id}"
        self.attempt = 1
        self._title = title
        self._index = 0
        self._events: list[Event | Snapshot] = []
        self._news = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.Task[None]] = set()
        asked = MessageView(
            id=self.message,
            role="user",
            content=question,
            parts=text_parts(question),
            reply_to=None,
            run=None,
            created_at=NOW,
        )
        self._events += [
            MessageCreated(message=asked),
            RunQueued(run=self.run, message=self.message),
            RunStarted(run=self.run, attempt=1, model="a-model"),
        ]

    async def serve(self, session: BrowserContext) -> None:
        """Answer this session's requests for the conversation and its run, until `close`."""
        self._server = await asyncio.start_server(self._stream, HOST, 0)
        await session.route(f"**/api/conversations/{self.id}/**", self._conversation)
        await session.route(f"**/api/runs/{self.run}/", self._status)

    async def close(self) -> None:
        """End the streams, and the connections on which the browser has requested nothing."""
        if self._server:
            self._server.close()
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams)

    async def say(self, *parts: Part) -> None:
        """Add these parts to the reply. Text and reasoning may be added piece by piece."""
        events: list[Event] = []
        for part in parts:
            events.append(self._piece(part))
            self._index += 1
        await self._publish(*events)

    async def replace(self, *parts: Part) -> None:
        """Send all parts of the reply again, as a worker does after its log was lost."""
        whole = TextSnapshot(
            run=self.run,
            attempt=self.attempt,
            index=self._index,
            text=text_of(parts),
            parts=parts,
        )
        self._index += 1
        await self._publish(whole)

    async def snapshot(self, title: str) -> None:
        """Send a snapshot with a different title to the connected readers."""
        self._title = title
        await self._publish(replace(self._snapshot(), cursor=len(self._events) + 1))

    async def begin_again(self) -> None:
        """Begin the next attempt."""
        self.attempt += 1
        self._index = 0
        await self._publish(RunStarted(run=self.run, attempt=self.attempt, model="a-model"))

    async def end(self, how: type[RunCompleted | RunCancelled] = RunCompleted) -> None:
        outcome: dict[str, Any] = {"finish_reason": "stop"} if how is RunCompleted else {}
        reply = UUID(int=self.run.int ^ 1)
        await self._publish(
            how(run=self.run, attempt=self.attempt, reply=reply, usage=USAGE, **outcome)
        )

    def _piece(self, part: Part) -> Delta | PartAdded:
        run, attempt, index = self.run, self.attempt, self._index
        match part:
            case TextPart(text=text):
                return TextDelta(run=run, attempt=attempt, index=index, text=text)
            case ReasoningPart(text=text):
                return ReasoningDelta(run=run, attempt=attempt, index=index, text=text)
            case _:
                return PartAdded(run=run, attempt=attempt, index=index, part=part)

    async def _publish(self, *events: Event | Snapshot) -> None:
        async with self._news:
            self._events += events
            self._news.notify_all()

    @property
    def _reply(self) -> Reply:
        state = ConversationState()
        for event in self._events:
            state = fold(state, event)
        return state.replies[self.run]

    def _snapshot(self) -> Snapshot:
        first, reply = self._events[0], self._reply
        assert isinstance(first, MessageCreated)
        messages, runs = [first.message], []
        if reply.ending and reply.ending.reply:
            messages.append(
                MessageView(
                    id=reply.ending.reply,
                    role="assistant",
                    content=reply.text,
                    parts=reply.parts,
                    reply_to=self.message,
                    run=self.run,
                    created_at=NOW,
                )
            )
        else:
            runs.append(
                LiveRun(
                    id=self.run,
                    status="running",
                    attempt=reply.attempt,
                    message=self.message,
                    text=reply.text,
                    reasoning=reply.reasoning,
                    parts=reply.parts,
                )
            )
        return Snapshot(
            id=self.id,
            title=self._title,
            model="a-model",
            created_at=NOW,
            messages=tuple(messages),
            earlier=None,
            runs=tuple(runs),
            unanswered=(),
            cursor=len(self._events),
        )

    async def _conversation(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        with suppress(Error):  # the page has gone meanwhile
            if url.path.endswith("/events/"):
                assert self._server
                port = self._server.sockets[0].getsockname()[1]
                await route.continue_(url=f"http://{HOST}:{port}/?{url.query}")
            else:
                await route.fulfill(body=encode(self._snapshot()), content_type="application/json")

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the page has gone, or until `close`."""
        task = asyncio.current_task()
        assert task
        self._streams.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._send_events(reader, writer)
        writer.close()
        self._streams.discard(task)

    async def _send_events(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send a snapshot if the request names no cursor, then each event."""
        head = await reader.readuntil(b"\r\n\r\n")
        given = re.search(rb"lastEventId=([0-9]+)", head)
        cursor = int(given[1]) if given else len(self._events)
        writer.write(HEAD + b"retry: 1000\n")
        if not given:
            writer.write(encode_frame(self._snapshot(), cursor))
        while True:
            for event in self._events[cursor:]:
                cursor += 1
                writer.write(encode_frame(event, cursor))
            await writer.drain()
            async with self._news:
                await self._news.wait_for(partial(self._has_news, cursor))

    def _has_news(self, cursor: int) -> bool:
        return len(self._events) > cursor

    async def _status(self, route: Route) -> None:
        body = run_body(self.id, self.run, self.message, self._reply, USAGE)
        with suppress(Error):
            await route.fulfill(body=json.dumps(body), content_type="application/json")
