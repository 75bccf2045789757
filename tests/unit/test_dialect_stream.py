"""The stream of one run in another client's wire: when it says something, and when a comment."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

from streams.delivery.open_streams import OpenStream
from streams.dialects.langgraph import LangGraphWire, ThreadBefore
from streams.dialects.run_stream import KEEP_ALIVE, RunStream
from streams.models import Run
from streams.protocol.events import RunCancelled, RunStarted, TextDelta
from streams.protocol.fold import Reply
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat
from tests.support.reply_histories import RUN, USAGE

OTHER = UUID(int=9)
THREAD = ThreadBefore(thread="t", messages=())


class Pieces:
    """A stream with these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        pass


def delta(run: UUID, index: int) -> bytes:
    return encode_frame(TextDelta(run=run, attempt=1, index=index, text="w "))


async def told(*pieces: bytes) -> list[bytes]:
    """The frames of a run that waits when its reader comes, without those of its head."""
    stream = cast("OpenStream", Pieces(retry_field(1, 2), *pieces))
    frames = RunStream(LangGraphWire(Run(id=RUN), THREAD), stream, Reply(run=RUN))
    return [frame async for frame in frames][1:]


def events(frames: list[bytes]) -> list[Any]:
    lines = (line for frame in frames for line in frame.split(b"\n"))
    kinds = (b": ", b"event: ")
    return [line.removeprefix(b"event: ").decode() for line in lines if line.startswith(kinds)]


ENDED = encode_frame(RunCancelled(run=RUN, attempt=1, reply=None, usage=USAGE))


async def test_a_heartbeat_is_a_comment() -> None:
    started = encode_frame(RunStarted(run=RUN, attempt=1, model="m"))
    frames = await told(encode_frame(Heartbeat(head=1)), started, delta(RUN, 0), ENDED)
    assert frames[0] == KEEP_ALIVE
    assert events(frames) == [": keep-alive", "messages", "messages", "values", "end"]
