"""OpenAI's Responses: a run as typed frames, whose `sequence_number` is a reader's position.

Each part of the reply is an item of the output. Its `output_index` and its id name the attempt and
the part, so they are the same on each connection. Another attempt ends the items of the attempt
before it without content, and adds new items. The next edition of the same attempt does so too: it
begins if the log was lost and the run ended with less text than was sent. This wire cannot express
sources and data, so they are left out.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from streams.dialects.changes import Closed, Ended, Grown, Opened, TakenBack, changes
from streams.dialects.editions import attempt_of, edition_of, next_edition
from streams.dialects.position import END, FRAMES, OFFSET_BITS, Position, reply_at
from streams.dialects.responses_body import (
    call_item,
    content_of,
    item,
    item_id,
    output_index,
    response_body,
)
from streams.models import Run
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from streams.protocol.sse import json_line

TOP = 2**OFFSET_BITS - 1
TERMINAL = {
    "completed": "response.completed",
    "failed": "response.failed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",  # the wire has no type for a cancelled response
}
Event = tuple[Position, str, dict[str, Any]]


class ResponseWire:
    """One stream of a run's frames. `after`: the last `sequence_number` that the reader has."""

    dialect = "responses"

    def __init__(self, run: Run, *, after: int | None = None) -> None:
        self._run = run
        self._after = after
        self._edition = 0  # the edition of the frames that were sent

    @property
    def variant(self) -> Hashable:
        return self._edition, self._after

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        sent = None if before is None else replace(before, attempt=self._edition)
        for position, type, fields in self._events(sent, self._edited(sent, now)):
            number = int(position)
            if self._after is None or number > self._after:
                data = json_line({"type": type, "sequence_number": number, **fields})
                yield b"event: " + type.encode() + b"\ndata: " + data + b"\n\n"

    def _edited(self, sent: Reply | None, now: Reply) -> Reply:
        """The reply, with the number of its edition in place of its attempt."""
        if not self._edition and self._after is not None:
            self._edition = continued_edition(Position.of(self._after), now)
        elif attempt_of(self._edition) != now.attempt:
            self._edition = edition_of(now.attempt)
        elif sent and _is_taken_back(replace(sent, attempt=now.attempt), now):
            self._edition = next_edition(self._edition)
        return replace(now, attempt=self._edition)

    def _events(self, before: Reply | None, now: Reply) -> Iterator[Event]:
        if before is None:
            yield self._lifecycle(0, "response.created", now)
            if not now.attempt:
                yield self._lifecycle(1, "response.queued", now)
            before = Reply(run=now.run)
        if now.attempt and not before.attempt:
            yield self._lifecycle(2, "response.in_progress", now)
            if self._after is not None:
                yield from self._void(Position.of(self._after), now)
                before = _had(Position.of(self._after), now)
        if before.attempt != now.attempt:
            yield from _taken_back(before)
            before = Reply(run=now.run, attempt=now.attempt)
        yield from self._changes(before, now)

    def _changes(self, before: Reply, now: Reply) -> Iterator[Event]:
        for change in changes(before, now):
            match change:
                case Opened(place=place, part=part):
                    yield from _opened(place, part, now)
                case Grown(place=place, part=part):
                    position = Position.after_text(now, place)
                    yield position, f"{_word(part)}.delta", _delta(place, part, change.text, now)
                case Closed(place=place, part=part):
                    yield from _closed(place, part, now)
                case Ended():
                    body = response_body(self._run, now)
                    end = Position(attempt=max(1, now.attempt), place=END - 1, offset=0)
                    yield end, TERMINAL[body["status"]], {"response": body}

    def _lifecycle(self, offset: int, type: str, now: Reply) -> Event:
        begun = replace(now, parts=(), ending=None)
        position = Position(attempt=1, place=-1, offset=offset)
        return position, type, {"response": response_body(self._run, begun)}

    def _void(self, after: Position, now: Reply) -> Iterator[Event]:
        """End the items of an earlier edition that the reader has, whose kinds are unknown now."""
        if after.attempt < now.attempt:
            last = TOP - after.offset if after.is_end else after.place
            for place in range(min(last, END - 2), -1, -1):
                yield _voided(place, TextPart(text=""), Reply(run=now.run, attempt=after.attempt))


def continued_edition(after: Position, now: Reply) -> int:
    """The edition for a reader that reconnects: its own, if the reply still has all that was sent.

    Otherwise the next one. Raises `StreamBroken` if there is no next one.
    """
    if not now.attempt or attempt_of(after.attempt) != now.attempt:
        return edition_of(now.attempt)
    had = None if _is_void(after) else reply_at(after, replace(now, attempt=after.attempt))
    return after.attempt if had else next_edition(after.attempt)


def _is_taken_back(sent: Reply, now: Reply) -> bool:
    return isinstance(next(changes(sent, now), None), TakenBack)


def _is_void(after: Position) -> bool:
    """Whether the reader's last frame ended a void item."""
    return after.is_end and after.offset > 0


def _had(after: Position, now: Reply) -> Reply:
    """The reply that the reader has. The last part is left out if it may lack some of its frames.

    Its frames are then made again, and `frames` skips those that the reader has.
    """
    if after.attempt < now.attempt:
        return Reply(run=now.run, attempt=now.attempt)
    before = reply_at(after, now)
    if before is None:  # this position was never sent
        return replace(now, ending=None)
    part = before.parts[-1] if before.parts and 0 <= after.place < END - 1 else None
    if part and (after.offset < FRAMES or not isinstance(part, TextPart | ReasoningPart)):
        before = replace(before, parts=before.parts[:-1])
    return before


def _taken_back(before: Reply) -> Iterator[Event]:
    for place in range(len(before.parts) - 1, -1, -1):
        part = before.parts[place]
        if isinstance(part, TextPart | ReasoningPart | ToolCallPart):
            yield _voided(place, part, before)


def _voided(place: int, part: AnyPart, before: Reply) -> Event:
    """The frame that ends a void item.

    Its number is above the numbers of all parts of its attempt, and says which places are left.
    """
    position = Position(attempt=max(1, before.attempt), place=END - 1, offset=TOP - place)
    void = item(replace(before, parts=()), place, part, "incomplete")
    index = output_index(before.attempt, place)
    return position, "response.output_item.done", {"output_index": index, "item": void}


def _word(part: TextPart | ReasoningPart) -> str:
    return f"response.{'output' if isinstance(part, TextPart) else 'reasoning'}_text"


def _place(place: int, part: AnyPart, now: Reply) -> dict[str, Any]:
    return {
        "item_id": item_id(now, place, part),
        "output_index": output_index(now.attempt, place),
    }


def _delta(place: int, part: TextPart | ReasoningPart, text: str, now: Reply) -> dict[str, Any]:
    logprobs: dict[str, Any] = {"logprobs": []} if isinstance(part, TextPart) else {}
    return {**_place(place, part, now), "content_index": 0, "delta": text, **logprobs}


def _opened(place: int, part: AnyPart, now: Reply) -> Iterator[Event]:
    index = output_index(now.attempt, place)
    match part:
        case TextPart() | ReasoningPart():
            empty = item(replace(now, parts=()), place, part, "in_progress")
            added = {"output_index": index, "item": empty}
            yield Position.within(now, place), "response.output_item.added", added
            content = {"content_index": 0, "part": content_of(replace(part, text=""))}
            where = _place(place, part, now)
            yield (
                Position.within(now, place, 1),
                "response.content_part.added",
                {**where, **content},
            )
        case ToolCallPart():
            called = call_item(now, place, part, None)
            where, arguments = _place(place, part, now), called["arguments"]
            added = {"output_index": index, "item": {**called, "arguments": ""}}
            yield Position.within(now, place), "response.output_item.added", added
            yield Position.within(now, place, 1), "response.mcp_call.in_progress", where
            delta, done = {**where, "delta": arguments}, {**where, "arguments": arguments}
            yield Position.within(now, place, 2), "response.mcp_call_arguments.delta", delta
            yield Position.within(now, place, 3), "response.mcp_call_arguments.done", done
        case ToolResultPart(call=call, error=error):
            for called_at, asked in enumerate(now.parts[:place]):
                if isinstance(asked, ToolCallPart) and asked.call == call:
                    outcome = "completed" if error is None else "failed"
                    where = _place(called_at, asked, now)
                    yield Position.within(now, place), f"response.mcp_call.{outcome}", where
                    index = output_index(now.attempt, called_at)
                    done = {"output_index": index, "item": call_item(now, called_at, asked, part)}
                    yield Position.within(now, place, 1), "response.output_item.done", done


def _closed(place: int, part: TextPart | ReasoningPart, now: Reply) -> Iterator[Event]:
    where = {**_place(place, part, now), "content_index": 0}
    text: dict[str, Any] = {"text": part.text}
    if isinstance(part, TextPart):
        text["logprobs"] = []
    yield Position.after_text(now, place, 1), f"{_word(part)}.done", {**where, **text}
    content = {**where, "part": content_of(part)}
    yield Position.after_text(now, place, 2), "response.content_part.done", content
    ended = item(now, place, part)
    done = {"output_index": output_index(now.attempt, place), "item": ended}
    # A lost log can make a part the last one again, so that a completed item becomes incomplete.
    # Then the frame is sent a second time, because its number is higher.
    frame = 3 if ended["status"] == "completed" else 4
    yield Position.after_text(now, place, frame), "response.output_item.done", done
