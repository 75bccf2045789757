"""Live events of a conversation, and their frames in each wire, made once for all its streams.

The waiting streams get the same events, one stream after the other. So each stream reuses the
events, replies and frames that the first one has made.
"""

from collections.abc import Hashable
from functools import lru_cache
from uuid import UUID

from streams.dialects.wire import Wire
from streams.protocol.events import EVENTS, Delta, Ending, Piece, RunStarted, TextSnapshot
from streams.protocol.fold import Reply
from streams.protocol.sse import decode, split_blocks
from streams.protocol.stream_frames import Heartbeat

RunEvent = RunStarted | Piece | TextSnapshot | Ending
RUN_EVENTS = frozenset(type for type, kind in EVENTS.items() if issubclass(kind, RunEvent))
Block = tuple[str, bytes]  # type and data


def blocks_of(piece: bytes) -> list[Block]:
    """The blocks in a piece of the stream, without a `retry` field that stands alone."""
    return [
        (fields[b"event"].decode(), fields[b"data"])
        for fields in split_blocks(piece)
        if b"data" in fields
    ]


def is_silent(blocks: list[Block]) -> bool:
    """Whether one of the blocks is a heartbeat, which says that no event came for a while."""
    return any(type == Heartbeat.type for type, _ in blocks)


def event_of(run: UUID, block: Block) -> RunEvent | None:
    """The run's event in this block; None for any other block."""
    type, data = block
    if type not in RUN_EVENTS or str(run).encode() not in data:
        return None
    event = decode(type, data)
    return event if isinstance(event, RunEvent) and event.run == run else None


class Arrival:
    """Live events that have arrived together; or a heartbeat, which comes alone."""

    def __init__(self, piece: bytes) -> None:
        self.blocks = blocks_of(piece)
        self.is_silent = is_silent(self.blocks)
        self._replies: list[tuple[Reply, Reply | None]] = []  # before and after
        self._frames: dict[tuple[str, Hashable, int], bytes] = {}

    def reply_after(self, before: Reply) -> Reply | None:
        """The reply after these events; None if they change anything except its text.

        Streams with equal replies get the same object, so that later comparisons are quick.
        """
        for known, now in self._replies:
            if known is before or known == before:
                return now
        now = self._with_text(before)
        self._replies.append((before, now))
        return now

    def frames(self, wire: Wire, before: Reply, now: Reply) -> bytes:
        """The frames from `before` to `now`, which is the result of `reply_after(before)`."""
        key = wire.dialect, wire.variant, id(now)
        if key not in self._frames:
            self._frames[key] = b"".join(wire.frames(before, now))
        return self._frames[key]

    def _with_text(self, reply: Reply) -> Reply | None:
        for block in self.blocks:
            if event := event_of(reply.run, block):
                if not isinstance(event, Delta) or event.attempt != reply.attempt:
                    return None
                reply = reply.apply(event)
        return reply


@lru_cache(maxsize=1)  # all waiting streams are written to before the next piece arrives
def arrival_of(piece: bytes) -> Arrival:
    """The events in this piece, parsed once for all streams."""
    return Arrival(piece)
