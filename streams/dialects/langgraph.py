"""LangGraph's stream of a run, as its SDKs read it: the thread's state, and chunks of messages.

The id of each frame is the reader's position. The SDKs reconnect by themselves and send it as
`Last-Event-ID`, so they continue where they were, even after the run's end and without the log.
Another attempt removes the messages of the attempt before it, and writes new ones with other ids.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from streams.dialects.changes import Ended, Grown, Opened, Replaced, TakenBack, changes
from streams.dialects.langgraph_messages import (
    SHOWN,
    Json,
    call_chunk,
    chunk,
    first_place,
    message_id,
    outcome,
    reply_messages,
    tool_message,
)
from streams.dialects.position import END, OFFSET_BITS, Position, reply_at
from streams.http.disconnect import StreamBroken
from streams.models import Run
from streams.protocol.events import RunCancelled, RunCompleted, RunFailed
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    part_json,
)
from streams.protocol.sse import json_line

VALUES, MESSAGES, CUSTOM = "values", "messages-tuple", "custom"
MODES = (VALUES, MESSAGES, CUSTOM)
HEAD = Position(attempt=1, place=-1, offset=1)  # after the first frame with the thread's state
USAGE, STATE, FAILURE, LAST = range(4)  # the offsets of the frames after all parts
TOP = 2**OFFSET_BITS - 1
STATUS: dict[type, str] = {
    RunCompleted: "success",
    RunCancelled: "interrupted",
    RunFailed: "error",
}
Event = tuple[Position, str, Any]


@dataclass(frozen=True, kw_only=True)
class ThreadBefore:
    """The thread before the reply: its messages in LangGraph's form, up to the question.

    `is_behind`: an earlier run of the thread is active, so messages may be missing.
    """

    thread: str
    messages: tuple[Json, ...]
    is_behind: bool = False


class LangGraphWire:
    """One stream of a run in these modes. `after`: the position of a reader that reconnects."""

    dialect = "langgraph"

    def __init__(
        self,
        run: Run,
        thread: ThreadBefore,
        *,
        modes: Collection[str] = MODES,
        after: Position | None = None,
    ) -> None:
        self._run = run
        self._thread = thread
        self._modes = modes
        self._after = after

    @property
    def variant(self) -> Hashable:
        return self._thread.thread, tuple(self._modes)

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames from `before` to `now`.

        Raises `StreamBroken` if the thread may have got other messages since its state was read.
        """
        waited = self._thread.is_behind and VALUES in self._modes
        if waited and (now.attempt or now.ending):
            raise StreamBroken
        for position, event, data in self._events(before, now):
            encoded = json_line(data)
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (int(position), event.encode(), encoded)

    def _events(self, before: Reply | None, now: Reply) -> Iterator[Event]:
        last = -1  # of the frames that follow all parts, the offset of the last one received
        if before is None:
            yield from self._head(now)
            if self._after and _has_ended(self._after):
                last = self._after.offset
            before = Reply(run=now.run, attempt=now.attempt)
            if self._after and self._after.place >= 0:
                if had := _had(self._after, now):
                    before = had
                    yield from self._replaceable(had, self._after)
                else:
                    yield from self._removed(self._after.attempt, range(_places(self._after)), now)
        if before.attempt != now.attempt:
            yield from self._removed(before.attempt, _shown(before.parts), now)
            before = Reply(run=now.run, attempt=now.attempt)
        yield from self._changes(before, now, last)

    def _changes(self, before: Reply, now: Reply, last: int) -> Iterator[Event]:
        for change in changes(before, now):
            match change:
                case TakenBack(attempt=attempt, parts=parts):
                    yield from self._removed(attempt, _shown(parts), now)
                case Grown(place=place, part=part, text=text):
                    position = Position.after_text(now, place)
                    id = message_id(now.run, now.attempt, first_place(now.parts, place))
                    yield from self._message(position, chunk(id, part, text))
                case Opened(place=place, part=part):
                    yield from self._whole(place, part, now)
                case Replaced(part=part):
                    yield from self._custom(_reached(before), part)
                case Ended():
                    yield from (one for one in self._ending(now) if one[0].offset > last)

    def _head(self, now: Reply) -> Iterator[Event]:
        if self._after is None:
            ids = {"run_id": str(now.run), "thread_id": self._thread.thread}
            yield replace(HEAD, offset=0), "metadata", {**ids, "attempt": 1}
        if VALUES in self._modes and (self._after is None or self._after < HEAD):
            yield HEAD, "values", {"messages": self._thread.messages}

    def _whole(self, place: int, part: AnyPart, now: Reply) -> Iterator[Event]:
        position = Position.within(now, place)
        first = first_place(now.parts, place)
        id = message_id(now.run, now.attempt, first)
        match part:
            case ToolCallPart():
                earlier = now.parts[first:place]
                index = sum(isinstance(one, ToolCallPart) for one in earlier)
                yield from self._message(position, call_chunk(id, part, index))
            case ToolResultPart():
                yield from self._message(position, tool_message(id, part, now.parts))
            case SourcePart() | DataPart():
                yield from self._custom(position, part)

    def _ending(self, now: Reply) -> Iterator[Event]:
        assert now.ending
        messages = reply_messages(now.run, now.attempt, now.parts, now.ending)
        last = next((one["id"] for one in reversed(messages) if one["type"] == "ai"), None)
        if last:
            used = {**chunk(last, TextPart(text=""), ""), **outcome(now.ending)}
            yield from self._message(_end(now, USAGE), used)
        if VALUES in self._modes:
            state = {"messages": [*self._thread.messages, *messages]}
            yield _end(now, STATE), "values", state
        if isinstance(now.ending, RunFailed):
            error = {"error": now.ending.code, "message": now.ending.reason}
            yield _end(now, FAILURE), "error", error
        yield _end(now, LAST), "end", {"run_id": str(now.run), "status": STATUS[type(now.ending)]}

    def _removed(self, attempt: int, places: Iterable[int], now: Reply) -> Iterator[Event]:
        """Remove the messages that begin at these places, the last message first.

        The position of each frame says which places of the attempt are left.
        """
        for place in sorted(places, reverse=True):
            position = Position(attempt=max(1, attempt), place=END - 1, offset=TOP - place)
            remove = {"type": "remove", "id": message_id(now.run, attempt, place), "content": ""}
            yield from self._message(position, remove)

    def _replaceable(self, had: Reply, after: Position) -> Iterator[Event]:
        """Replaceable data again, because the position does not say which content was sent."""
        for part in had.parts:
            if isinstance(part, DataPart) and part.id is not None and not after.is_end:
                yield from self._custom(after, part)

    def _message(self, position: Position, message: Json) -> Iterator[Event]:
        if MESSAGES in self._modes:
            node = "tools" if message["type"] == "tool" else "agent"
            about = {"run_id": str(self._run.id), "thread_id": self._thread.thread}
            yield position, "messages", [message, {**about, "langgraph_node": node, "tags": []}]

    def _custom(self, position: Position, part: AnyPart) -> Iterator[Event]:
        if CUSTOM in self._modes:
            yield position, "custom", part_json(part)


def _had(after: Position, now: Reply) -> Reply | None:
    """The reply that the reader has, without its ending; None if some of its messages are void."""
    if after.is_end and not _has_ended(after):
        return None  # the reader has removed some messages
    if after.attempt == 1 and not now.attempt:
        after = replace(after, attempt=0)  # no attempt has begun
    had = reply_at(after, now)
    return had and replace(had, ending=None)


def _has_ended(after: Position) -> bool:
    """Whether the reader has received how the run ended."""
    return after.is_end and after.offset <= LAST


def _places(after: Position) -> int:
    """How many parts of its attempt the reader may have."""
    most: int = END
    return min(most, TOP - after.offset if after.is_end else after.place + 1)


def _shown(parts: tuple[AnyPart, ...]) -> list[int]:
    """The places at which messages begin."""
    shown = (place for place, part in enumerate(parts) if isinstance(part, SHOWN))
    return [place for place in shown if first_place(parts, place) == place]


def _reached(reply: Reply) -> Position:
    """The position of a reader that has exactly this reply."""
    if not reply.parts:
        return replace(HEAD, attempt=max(1, reply.attempt))
    last = len(reply.parts) - 1
    if isinstance(reply.parts[last], TextPart | ReasoningPart):
        return Position.after_text(reply, last)
    return Position.within(reply, last)


def _end(now: Reply, offset: int) -> Position:
    return Position(attempt=max(1, now.attempt), place=END - 1, offset=offset)
