"""A thread as AG-UI's messages: each part of a reply is a message with an id of its own.

The client folds the events of a reply into the same messages that `reply_messages` returns.
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

ACTIVITIES = ("unspool-source", "unspool-data")  # the types of activities that this service sends
Message = dict[str, Any]


def part_id(run: UUID, place: int) -> str:
    """The id of the message for this part."""
    return f"{run}-{place}"


def call_id(run: UUID, call: str) -> str:
    """The tool call's id. It is unique in the thread, because the client searches all messages."""
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
    """The fields that a tool's message and its event have in common."""
    output = part.output if part.error is None else part.error
    content = output if isinstance(output, str) else orjson.dumps(output).decode()
    fields: Message = {"toolCallId": call_id(run, part.call), "content": content}
    said = {"error": part.error is not None, "truncated": part.truncated}
    marks = {name: True for name, value in said.items() if value}
    return {**fields, "metadata": marks} if marks else fields


def activity_fields(part: SourcePart | DataPart) -> Message:
    """The fields that an activity's message and its event have in common."""
    match part:
        case SourcePart(source=source, title=title, url=url):
            content = {"source": source, "title": title}
            shown = content if url is None else {**content, "url": url}
            return {"activityType": ACTIVITIES[0], "content": shown}
        case DataPart(name=name, data=data):
            return {"activityType": ACTIVITIES[1], "content": {"name": name, "data": data}}


def _place_of_result(messages: list[Message], call: str) -> int:
    """The index at which the client inserts a tool's message: after the message of its call."""
    for place, message in enumerate(messages):
        if any(one["id"] == call for one in message.get("toolCalls", ())):
            return place + 1
    return len(messages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thread:
    """The messages of a thread without one reply, whose index in the list is `at`.

    They are stored as bytes to save memory, because a stream holds them until its run has ended.
    """

    encoded: bytes
    at: int

    @classmethod
    def of(cls, before: Sequence[Message], after: Sequence[Message] = ()) -> "Thread":
        return cls(encoded=orjson.dumps([*before, *after]), at=len(before))

    def with_reply(self, reply: Sequence[Message]) -> list[Message]:
        """All messages, with the messages of the reply at its index."""
        messages: list[Message] = orjson.loads(self.encoded)
        return [*messages[: self.at], *reply, *messages[self.at :]]


def thread_of(
    stored: Sequence[MessageView], names: dict[str, str], question: UUID | None
) -> Thread:
    """The stored messages without the replies to `question`, where the streamed reply is inserted.

    `names`: the client's names of messages. If a message has several replies, the last is shown.
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
    """The lists to send, one after the other, to a client that has the messages `had`.

    Afterwards the client has `messages`. It keeps the order of the messages that it has, and
    appends new ones. It drops a message that a list lacks, but reasoning only if the list has
    reasoning. So a list first turns reasoning into another kind of message. The client's requests
    do not contain its activities. So if an activity may be missing before a message that the client
    has, an empty list comes first.
    """
    old = list(had)
    roles = {one["id"]: one["role"] for one in old}
    known = {one["id"] for one in messages}
    kept = [one["id"] for one in old if one["id"] in known]
    untold = _untold(messages, old)
    order = [one["id"] for one in messages if one["id"] in roles or one["id"] not in untold]
    reasoning = [
        {"id": one["id"], "role": "assistant", "content": ""}
        for one in old
        if one["role"] == "reasoning"
    ]
    if kept != order[: len(kept)] or (old and _moves_result(messages, roles)):
        if reasoning:
            yield reasoning
        yield []
    elif reasoning and not any(one["role"] == "reasoning" for one in messages):
        yield [*messages, *reasoning]
    yield messages


def _untold(messages: list[Message], old: list[Message]) -> set[str]:
    """The activities that the client has, although its requests do not contain them.

    They come before a part that the client has. There are none if the client was disconnected after
    a list that turned reasoning into another kind of message, because such a list drops all others.
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


def _moves_result(messages: list[Message], roles: dict[str, str]) -> bool:
    """Whether a tool's result belongs before an earlier part, and the client would append it.

    The client may have that part as an activity, which its requests do not contain. It appends a
    result that is new to it, and leaves one in its place that had the id of another part before a
    log was lost.
    """
    lowest: dict[str, int] = {}  # the earliest part of each reply among the later messages
    for one in reversed(messages):
        run, place = _place_of_part(one["id"])
        role = roles.get(one["id"])
        if role and (role == "tool") != (one["role"] == "tool"):
            return True
        if role or place < 0:
            continue
        earliest = lowest.get(run, place)
        if one["role"] == "tool" and earliest < place:
            return True
        lowest[run] = min(earliest, place)
    return False


def _place_of_part(message: str) -> tuple[str, int]:
    """The run and the place of the part with this id; the place is -1 for any other message."""
    run, _, place = message.rpartition("-")
    return run, int(place) if place.isdecimal() else -1
