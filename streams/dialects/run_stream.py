"""Follows one run for a reader of another wire.

    events of the conversation → the run's reply → changes in it → frames of the wire

The stream ends with the run. If it must end earlier, the connection breaks, because most clients
take an orderly end for a finished reply.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace

from django.conf import settings
from django.db import DatabaseError

from streams.access.authorization import Caller
from streams.chat.reply_state import ReplyState, reply_state
from streams.delivery.open_streams import OpenStream, open_streams
from streams.delivery.threads import in_thread
from streams.dialects.live_events import Block, arrival_of, blocks_of, event_of, is_silent
from streams.dialects.wire import LastFrames, Wire
from streams.http.disconnect import StreamBroken
from streams.http.event_stream import Write
from streams.log.channels import channel_of
from streams.models import Run
from streams.observability import metrics
from streams.protocol.events import Event, Snapshot
from streams.protocol.fold import Reply
from streams.protocol.sse import decode

KEEP_ALIVE = b": keep-alive\n\n"
# Seconds between two comments. LangGraph's client takes a silence of more than 10 for a lost
# connection, and a heartbeat may come a sixteenth later.
SILENCE = 9.0


class RunStream:
    """A run's frames. It counts toward its owner's limit until closed, even if never iterated.

    `on_close` is called once, when the stream has ended. Its argument says whether the reader left
    before that; it is False if the server ended the stream.
    """

    def __init__(
        self,
        wire: Wire,
        stream: OpenStream | None,
        reply: Reply,
        on_close: Callable[[bool], None] | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self._wire = wire
        self._stream = stream
        self._release = release
        self._reply = reply  # the reader has all frames up to this reply
        self._on_close = on_close
        self._left = True  # False once the stream has ended for another reason
        self._write: Write = lambda _: False
        self._frames = self._read()

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
        release, self._release = self._release, None
        if release:
            release()
        on_close, self._on_close = self._on_close, None
        if on_close:
            on_close(self._left)

    def write_with(self, write: Write) -> None:
        """Write frames for more text with `write` when it arrives while the stream waits."""
        self._write = write
        if self._stream:
            self._stream.write_with(self._write_at_once)

    def note_progress(self) -> None:
        if self._stream:
            self._stream.note_progress()

    def _write_at_once(self, piece: bytes) -> bool:
        """Write the frames of live events. False if the stream must wake to write them."""
        arrival = arrival_of(piece)
        if arrival.is_silent:
            return self._write(KEEP_ALIVE)
        now = arrival.reply_after(self._reply)
        if now is None:
            return False
        frames = arrival.frames(self._wire, self._reply, now)
        if frames and not self._write(frames):
            return False
        self._reply = now
        return True

    async def _read(self) -> AsyncGenerator[bytes]:
        with metrics.DIALECT_STREAMS.labels(self._wire.dialect).track_inprogress():
            try:
                async for frames in self._follow():
                    yield frames
            except LastFrames as last:
                self._left = False
                yield b"".join(last.frames)
            except StreamBroken:
                self._left = False
                raise
        self._left = False

    async def _follow(self) -> AsyncGenerator[bytes]:
        if frames := b"".join(self._wire.frames(None, self._reply)):
            yield frames
        if self._stream is None:
            return
        async with aclosing(self._stream):
            async for piece in self._stream:
                blocks = blocks_of(piece)
                before, self._reply = self._reply, await _folded(self._reply, blocks)
                changed = self._reply != before
                frames = b"".join(self._wire.frames(before, self._reply)) if changed else b""
                if frames:
                    yield frames
                elif is_silent(blocks):
                    yield KEEP_ALIVE
                if self._reply.ending:
                    return
        raise StreamBroken  # the server's shutdown, the stream's age, or the reader's lost access


def open_run(
    wire: Wire,
    caller: Caller,
    state: ReplyState,
    on_close: Callable[[bool], None] | None = None,
) -> RunStream:
    """Return a stream of the run's frames, which ends with the run.

    Call it in a request's thread, and iterate it in the event loop. Raises `StreamLimit`.
    """
    if state.reply.ending:
        release = open_streams().reserve(caller.owner)
        return RunStream(wire, None, state.reply, on_close, release)
    stream = open_streams().admit(
        caller,
        state.run.conversation,
        state.cursor,
        until_idle=False,
        heartbeat=min(SILENCE, settings.STREAM_HEARTBEAT),
    )
    return RunStream(wire, stream, state.reply, on_close)


async def _folded(reply: Reply, blocks: list[Block]) -> Reply:
    """The run's reply after these blocks; blocks of other runs change nothing."""
    for block in blocks:
        type, data = block
        if type == Snapshot.type:  # Redis is back, or the log has lost events
            reply = await _restarted(reply, decode(type, data))
        elif event := event_of(reply.run, block):
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
