"""A thread as AG-UI's messages: each part of a reply is a message with an id of its own.

The client folds the events of a reply into the same messages as `reply_messages` gives.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from streams.protocol.events import MessageView
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

ACTIVITIES = ("unspool-source", "unspool-data")  # the types of activities that are ours
Message = dict[str, Any]


def part_id(run: UUID, place: int) -> str:
    """The id of the message that this part is."""
    return f"{run}-{place}"


def call_id(run: UUID, call: str) -> str:
    """The tool call's id, unique in the thread: the client looks for it in all messages."""
    return f"{run}-{call}"


def reply_messages(run: UUID, parts: Iterable[AnyPart]) -> list[Message]:
    """The messages of a reply with these parts."""
    messages: list[Message] = []
    for place, part in enumerate(parts):
        message: Message = {"id": part_id(run, place)}
        match part:
            case TextPart(text=text):
                messages.append({**message, "role": "assistant", "content": text})
            case ReasoningPart(text=text):
                messages.append({**message, "role": "reasoning", "content": text})
            case ToolCallPart():
                call = {"id": call_id(run, part.call), "type": "function"}
                function = {"name": part.name, "arguments": arguments(part)}
                calls = [{**call, "function": function}]
                messages.append({**message, "role": "assistant", "toolCalls": calls})
            case ToolResultPart():
                result = {**message, "role": "tool", **result_fields(run, part)}
                messages.insert(_place_of_result(messages, result["toolCallId"]), result)
            case SourcePart() | DataPart():
                messages.append({**message, "role": "activity", **activity_fields(part)})
    return messages


def arguments(part: ToolCallPart) -> str:
    return orjson.dumps(part.input).decode()


def result_fields(run: UUID, part: ToolResultPart) -> Message:
    """What a tool's message and the event that brings it have in common."""
    output = part.output if part.error is None else part.error
    content = output if isinstance(output, str) else orjson.dumps(output).decode()
    fields: Message = {"toolCallId": call_id(run, part.call), "content": content}
    said = {"error": part.error is not None, "truncated": part.truncated}
    marks = {name: True for name, value in said.items() if value}
    return {**fields, "metadata": marks} if marks else fields


def activity_fields(part: SourcePart | DataPart) -> Message:
    """What an activity's message and the event that brings it have in common."""
    match part:
        case SourcePart(source=source, title=title, url=url):
            content = {"source": source, "title": title}
            shown = content if url is None else {**content, "url": url}
            return {"activityType": ACTIVITIES[0], "content": shown}
        case DataPart(name=name, data=data):
            return {"activityType": ACTIVITIES[1], "content": {"name": name, "data": data}}


def _place_of_result(messages: list[Message], call: str) -> int:
    """Where the client puts a tool's message: after its call, which is a message of its own."""
    for place, message in enumerate(messages):
        if any(one["id"] == call for one in message.get("toolCalls", ())):
            return place + 1
    return len(messages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    """The messages of a thread but for one reply, which stands at the place `at`.

    They are kept as bytes, because a stream keeps them until its run has ended.
    """

    encoded: bytes
    at: int

    @classmethod
    def of(cls, before: Sequence[Message], after: Sequence[Message] = ()) -> "Thread":
        return cls(encoded=orjson.dumps([*before, *after]), at=len(before))

    def with_reply(self, reply: Sequence[Message]) -> list[Message]:
        """All messages, with these of the reply."""
        messages: list[Message] = orjson.loads(self.encoded)
        return [*messages[: self.at], *reply, *messages[self.at :]]


def thread_of(
    stored: Sequence[MessageView], names: dict[str, str], question: UUID | None
) -> Thread:
    """The stored messages without any reply to `question`, for there its reply is to stand.

    `names`: the client's names of messages. Of several replies to a message the last one is shown.
    """
    last = {one.reply_to: one.id for one in stored if one.run}
    before: list[Message] = []
    after: list[Message] = []
    messages = before
    for one in stored:
        is_replaced = one.run is not None and last[one.reply_to] != one.id
        if is_replaced or (one.reply_to is not None and one.reply_to == question):
            continue
        messages += _stored(one, names)
        if one.id == question:
            messages = after
    if messages is before:  # the question is too old to be among them
        before, after = [], before
    return Thread.of(before, after)


def _stored(one: MessageView, names: dict[str, str]) -> Iterator[Message]:
    if one.run:
        yield from reply_messages(one.run, one.parts)
    else:
        name = names.get(str(one.id), str(one.id))
        yield {"id": name, "role": one.role, "content": one.content}


def snapshots(messages: list[Message], had: Iterable[Message]) -> Iterator[list[Message]]:
    """The message lists to send one after the other, so that a client that has `had` has these.

    The client keeps the order of what it has and appends the rest. It drops what a list lacks; but
    reasoning only if the list has reasoning. So reasoning first becomes another kind of message.
    Its requests do not tell its activities. So where one may be missing before a message that the
    client has, the list begins anew.
    """
    old = list(had)
    ids = {one["id"] for one in old}
    known = {one["id"] for one in messages}
    kept = [one["id"] for one in old if one["id"] in known]
    untold = _untold(messages, old)
    order = [one["id"] for one in messages if one["id"] in ids or one["id"] not in untold]
    reasoning = [
        {"id": one["id"], "role": "assistant", "content": ""}
        for one in old
        if one["role"] == "reasoning"
    ]
    if kept != order[: len(kept)] or (old and _lacks_result(messages, ids)):
        if reasoning:
            yield reasoning
        yield []
    elif reasoning and not any(one["role"] == "reasoning" for one in messages):
        yield [*messages, *reasoning]
    yield messages


def _untold(messages: list[Message], old: list[Message]) -> set[str]:
    """The activities that the client has, though it does not tell: those before a part that it has.

    None, if it was cut after a list that made reasoning another kind of message: such a list drops
    the parts before.
    """
    replies = (one for one in old if one["role"] == "assistant")
    if not all(one.get("content") or one.get("toolCalls") for one in replies):
        return set()
    last: dict[str, int] = {}  # the last part of each reply that the client has
    for one in old:
        run, place = _place_of_part(one["id"])
        last[run] = max(place, last.get(run, -1))
    untold = set()
    for one in messages:
        run, place = _place_of_part(one["id"])
        if one["role"] == "activity" and place < last.get(run, -1):
            untold.add(one["id"])
    return untold


def _lacks_result(messages: list[Message], ids: set[str]) -> bool:
    """Whether a tool's result is new to the client, and stands before an earlier part.

    The client may have that part as an activity, which its requests do not tell.
    """
    lowest: dict[str, int] = {}  # the earliest part of each reply among the later messages
    for one in reversed(messages):
        run, place = _place_of_part(one["id"])
        if one["id"] in ids or place < 0:
            continue
        earliest = lowest.get(run, place)
        if one["role"] == "tool" and earliest < place:
            return True
        lowest[run] = min(earliest, place)
    return False


def _place_of_part(message: str) -> tuple[str, int]:
    """The run and the place of the part with this id; -1 for another message's."""
    run, _, place = message.rpartition("-")
    return run, int(place) if place.isdecimal() else -1
