"""Follows one run for a reader of another wire.

    events of the conversation → the run's reply → changes in it → frames of the wire

The stream ends with the run. If it must end earlier, the connection breaks, because most clients
take an orderly end for a finished reply.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import Protocol

from django.conf import settings
from django.db import DatabaseError

from streams.access.authorization import Caller
from streams.chat.reply_state import ReplyState, reply_state
from streams.delivery.open_streams import OpenStream, open_streams
from streams.delivery.threads import in_thread
from streams.http.disconnect import StreamBroken
from streams.log.channels import channel_of
from streams.models import Run
from streams.observability import metrics
from streams.protocol.events import EVENTS, Ending, Event, Piece, RunStarted, Snapshot, TextSnapshot
from streams.protocol.fold import Reply
from streams.protocol.sse import decode, split_blocks
from streams.protocol.stream_frames import Heartbeat

RunEvent = RunStarted | Piece | TextSnapshot | Ending
RUN_EVENTS = frozenset(type for type, kind in EVENTS.items() if issubclass(kind, RunEvent))
KEEP_ALIVE = b": keep-alive\n\n"
SILENCE = 10.0  # seconds at most: LangGraph's client takes a longer silence for a lost connection


class LastFrames(Exception):
    """The wire has no words for the change, but for telling the reader that the stream is void.

    The stream ends after these frames.
    """

    def __init__(self, *frames: bytes) -> None:
        super().__init__(*frames)
        self.frames = frames


class Wire(Protocol):
    """How one reader of a wire is told about a run. One object serves one stream."""

    dialect: str  # one of `streams.conf.DIALECTS`

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames for a reader that has `before`, so that it has `now`; complete blocks.

        None: a reader that has nothing, not even the frames with which a reply opens. The last
        frames are those for a `now` with an ending. If the wire has no words for the change, raises
        `StreamBroken`, and the reader has to come back; or `LastFrames`.
        """
        ...


class RunStream:
    """A run's frames. It counts toward its owner's limit until closed, even if never iterated.

    `on_close` is called once, at its end, with whether the reader left before that. A stream that
    the server ends for its own reasons has no reader that left.
    """

    def __init__(
        self,
        wire: Wire,
        stream: OpenStream | None,
        state: ReplyState,
        on_close: Callable[[bool], None] | None,
    ) -> None:
        self._stream = stream
        self._on_close = on_close
        self._left = True  # until the stream has ended otherwise
        self._frames = self._read(wire, state.reply)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    async def aclose(self) -> None:
        await self._frames.aclose()
        self.close()

    def close(self) -> None:
        if self._stream:
            self._stream.close()
        on_close, self._on_close = self._on_close, None
        if on_close:
            on_close(self._left)

    async def _read(self, wire: Wire, reply: Reply) -> AsyncGenerator[bytes]:
        with metrics.DIALECT_STREAMS.labels(wire.dialect).track_inprogress():
            try:
                async for frames in _frames(wire, self._stream, reply):
                    yield frames
            except LastFrames as last:
                self._left = False
                yield b"".join(last.frames)
            except StreamBroken:
                self._left = False
                raise
        self._left = False


def open_run(
    wire: Wire,
    caller: Caller,
    state: ReplyState,
    on_close: Callable[[bool], None] | None = None,
) -> RunStream:
    """Return the run's frames, until the run has ended.

    Call it in a request's thread, and iterate it in the event loop. Raises `StreamLimit`.
    """
    stream = None
    if state.reply.ending is None:
        conversation = state.run.conversation
        heartbeat = min(SILENCE, settings.STREAM_HEARTBEAT)
        stream = open_streams().admit(
            caller, conversation, state.cursor, until_idle=False, heartbeat=heartbeat
        )
    return RunStream(wire, stream, state, on_close)


async def _frames(wire: Wire, stream: OpenStream | None, reply: Reply) -> AsyncGenerator[bytes]:
    if frames := b"".join(wire.frames(None, reply)):
        yield frames
    if stream is None:
        return
    said_at = monotonic()
    async with aclosing(stream):
        async for blocks in _blocks(stream):
            sent, reply = reply, await _folded(reply, blocks)
            frames = b"".join(wire.frames(sent, reply)) if reply != sent else b""
            if frames:
                yield frames
                said_at = monotonic()
            # Otherwise a run that waits would be silent for as long as another one writes.
            elif _is_silent(blocks) or monotonic() - said_at >= SILENCE:
                yield KEEP_ALIVE
                said_at = monotonic()
            if reply.ending:
                return
    raise StreamBroken  # the server's shutdown, the stream's age, or the reader's lost access


def _is_silent(blocks: list[tuple[str, bytes]]) -> bool:
    return any(type == Heartbeat.type for type, _ in blocks)


async def _blocks(stream: OpenStream) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The stream's blocks as (type, data), those of one piece together."""
    async for piece in stream:
        yield [
            (fields[b"event"].decode(), fields[b"data"])
            for fields in split_blocks(piece)
            if b"data" in fields  # otherwise it is a `retry` field alone
        ]


async def _folded(reply: Reply, blocks: list[tuple[str, bytes]]) -> Reply:
    """The run's reply after these blocks; those of other runs change nothing."""
    run = str(reply.run).encode()
    for type, data in blocks:
        if type == Snapshot.type:  # Redis is back, or the log has lost events
            reply = await _restarted(reply, decode(type, data))
        elif type in RUN_EVENTS and run in data:
            event = decode(type, data)
            if isinstance(event, RunEvent) and event.run == reply.run:
                reply = reply.apply(event)
    return reply


async def _restarted(reply: Reply, snapshot: Event | Snapshot) -> Reply:
    assert isinstance(snapshot, Snapshot)
    for run in snapshot.runs:
        if run.id == reply.run:
            return replace(reply, attempt=run.attempt, parts=run.parts)
    # At the snapshot's cursor the run has ended, and its row has the reply.
    try:
        return (await in_thread(lambda: reply_state(reply.run), of=channel_of(snapshot.id))).reply
    except (Run.DoesNotExist, DatabaseError):
        raise StreamBroken from None  # deleted meanwhile, or the database is away
