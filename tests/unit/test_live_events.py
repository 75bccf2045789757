"""Frames for text that arrives while streams of another wire wait: once for all, and the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.open_streams import OpenStream
from streams.dialects.ag_ui import AgUiWire
from streams.dialects.ai_sdk import UiMessageWire
from streams.dialects.chat_completions import ChatCompletionWire
from streams.dialects.langgraph import CUSTOM, MESSAGES, LangGraphWire, ThreadBefore
from streams.dialects.live_events import Arrival
from streams.dialects.responses import ResponseWire
from streams.dialects.run_stream import KEEP_ALIVE, RunStream
from streams.dialects.wire import Wire
from streams.http.disconnect import StreamBroken
from streams.http.event_stream import Write
from streams.models import Run
from streams.protocol.events import Event, PartAdded, ReasoningDelta, RunCancelled, RunStarted
from streams.protocol.events import TextDelta as Text
from streams.protocol.fold import Reply
from streams.protocol.parts import SourcePart, TextPart
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat
from tests.support.reply_histories import RUN, USAGE

OTHER = UUID(int=9)
STORED = Run(
    id=RUN,
    model="m",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    conversation_id=UUID(int=2),
    reader=RUN,
)
WIRES: dict[str, Callable[[], Wire]] = {
    "AI SDK 5": lambda: UiMessageWire(resets=False),
    "AI SDK 7": lambda: UiMessageWire(resets=True),
    "Chat Completions": lambda: ChatCompletionWire(STORED, usage=False),
    "Chat Completions with usage": lambda: ChatCompletionWire(STORED, usage=True),
    "Responses": lambda: ResponseWire(STORED),
    "Responses, continued": lambda: ResponseWire(STORED, after=2**40),
    "AG-UI": lambda: AgUiWire(names=("t", "r"), model="m", thread=None, had=None),
    "LangGraph": lambda: LangGraphWire(STORED, ThreadBefore(thread="t", messages=())),
    "LangGraph, messages": lambda: LangGraphWire(
        STORED, ThreadBefore(thread="t", messages=()), modes=(MESSAGES,)
    ),
    "LangGraph, custom": lambda: LangGraphWire(
        STORED, ThreadBefore(thread="t", messages=()), modes=(CUSTOM,)
    ),
}


class Source:
    """A stream of the conversation, which is given its pieces."""

    def __init__(self, *, is_full: bool) -> None:
        self._is_full = is_full  # so nothing can be written at once
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._write: Write | None = None
        self.waits = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.waits = True
        piece = await self._pieces.get()
        self.waits = False
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write_with(self, write: Write) -> None:
        self._write = None if self._is_full else write

    def give(self, piece: bytes | None) -> None:
        if not (piece and self.waits and self._write and self._write(piece)):
            self.waits = False
            self._pieces.put_nowait(piece)


class Reader:
    """A reader of one wire. `at_once` counts what was written past its stream's task."""

    def __init__(self, wire: Wire, *, is_full: bool) -> None:
        self.source = Source(is_full=is_full)
        self._stream = RunStream(wire, cast("OpenStream", self.source), Reply(run=RUN))
        self._stream.write_with(self._write)
        self.body: list[bytes] = []
        self.at_once = 0
        self.reading = asyncio.create_task(self._read())

    def _write(self, frames: bytes) -> bool:
        self.at_once += 1
        self.body.append(frames)
        return True

    async def _read(self) -> None:
        try:
            async for frames in self._stream:
                self.body.append(frames)
        except StreamBroken:
            self.body.append(b"broken")


async def read(wire: Callable[[], Wire], pieces: list[bytes], full: list[bool]) -> list[Reader]:
    """Readers of one wire that get the same pieces at the same time."""
    readers = [Reader(wire(), is_full=is_full) for is_full in full]
    for piece in [*pieces, None]:
        for reader in readers:
            while not (reader.source.waits or reader.reading.done()):
                await asyncio.sleep(0)
        for reader in readers:
            reader.source.give(piece)
    await asyncio.wait_for(asyncio.gather(*(reader.reading for reader in readers)), 10)
    return readers


def text(words: str, *, attempt: int = 1, run: UUID = RUN) -> Text:
    return Text(run=run, attempt=attempt, index=0, text=words)


def started(attempt: int = 1) -> RunStarted:
    return RunStarted(run=RUN, attempt=attempt, model="m")


def piece_of(*events: Event) -> bytes:
    return b"".join(map(encode_frame, events))


ENDED = RunCancelled(run=RUN, attempt=3, reply=None, usage=USAGE)
words = st.sampled_from(["a", "🙂"])
attempts = st.sampled_from([1, 1, 1, 2])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(text, words, attempt=attempts, run=st.sampled_from([RUN, RUN, RUN, OTHER])),
    st.builds(ReasoningDelta, run=st.just(RUN), attempt=attempts, index=st.just(0), text=words),
    st.builds(
        PartAdded,
        run=st.just(RUN),
        attempt=attempts,
        index=st.just(0),
        part=st.just(SourcePart(source="s", title="t")),
    ),
    st.builds(started, attempts),
)
pieces = st.one_of(
    st.lists(events, min_size=1, max_size=3).map(lambda several: piece_of(*several)),
    st.just(encode_frame(Heartbeat(head=1))),
)


@given(st.lists(pieces, max_size=8), st.sampled_from(sorted(WIRES)))
def test_what_is_written_at_once_is_what_the_stream_would_send(
    arriving: list[bytes], wire: str
) -> None:
    all_pieces = [retry_field(1, 2), piece_of(started()), *arriving, piece_of(ENDED)]
    readers = asyncio.run(read(WIRES[wire], all_pieces, [False, True, False]))
    first, slow, last = (reader.body for reader in readers)
    assert first == slow == last
    assert not readers[1].at_once


async def test_text_and_heartbeats_are_written_at_once() -> None:
    beat = encode_frame(Heartbeat(head=1))
    given = [piece_of(started()), piece_of(text("a")), piece_of(text("b")), beat, piece_of(ENDED)]
    (reader,) = await read(WIRES["AI SDK 7"], given, [False])
    assert reader.at_once == 3
    assert KEEP_ALIVE in reader.body


async def test_an_ending_ends_the_stream() -> None:
    given = [piece_of(started()), piece_of(text("a")), piece_of(text("b"), ENDED)]
    (reader,) = await read(WIRES["AI SDK 7"], given, [False])
    assert reader.at_once == 1
    assert reader.body[-1].endswith(b"[DONE]\n\n")


async def test_words_that_are_taken_back_break_the_stream() -> None:
    given = [piece_of(started()), piece_of(text("a")), piece_of(started(2), text("b", attempt=2))]
    (reader,) = await read(WIRES["AI SDK 5"], given, [False])
    assert reader.body[-1] == b"broken"


async def test_frames_are_made_once_for_all_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[Reply | None]()
    frames = UiMessageWire.frames

    def counted(self: UiMessageWire, before: Reply | None, now: Reply) -> object:
        made.append(before)
        return frames(self, before, now)

    monkeypatch.setattr(UiMessageWire, "frames", counted)
    given = [piece_of(started()), piece_of(text("a")), piece_of(text("b")), piece_of(ENDED)]
    await read(WIRES["AI SDK 7"], given, [False] * 10)
    # Each reader's own: the head and the ending; an attempt alone changes nothing to say.
    assert len(made) == 10 * 3 + 2


def test_wires_of_a_kind_that_differ_get_frames_of_their_own() -> None:
    before = Reply(run=RUN, attempt=1, parts=(TextPart(text="a"),))
    arrival = Arrival(piece_of(text("b")))
    now = arrival.reply_after(before)
    assert now
    assert now.text == "ab"
    for make in WIRES.values():
        wire = make()
        own = b"".join(make().frames(before, now))
        assert arrival.frames(wire, before, now) == own


@pytest.mark.parametrize("name", sorted(WIRES))
def test_no_frame_has_a_line_end_that_some_clients_split_at(name: str) -> None:
    words = "a\x85b\u2028c\u2029d"
    ended = Reply(run=RUN, attempt=3, parts=(TextPart(text=words),), ending=ENDED)
    frames = b"".join(WIRES[name]().frames(None, ended)).decode()
    lines = [line for line in frames.splitlines() if line]
    assert all(line.startswith(("data: ", "event: ", "id: ")) for line in lines)
    said = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    if name not in ("LangGraph, custom", "LangGraph, messages", "Responses, continued"):
        assert words in json.dumps([json.loads(one) for one in said], ensure_ascii=False)
