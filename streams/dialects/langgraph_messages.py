"""The parts of a reply as LangGraph's messages: the model's messages, and one per tool result.

A model's message holds the text, reasoning and calls up to the next tool result. Its id consists of
the run, the attempt and the place of its first part, so it is the same in each stream and state.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from streams.protocol.events import Ending, RunCompleted
from streams.protocol.parts import (
    AnyPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

Json = dict[str, Any]
ModelPart = TextPart | ReasoningPart | ToolCallPart  # the parts of a model's message
SHOWN = (*ModelPart.__args__, ToolResultPart)  # the parts that are messages, or belong to one


def message_id(run: UUID, attempt: int, place: int) -> str:
    """The id of the message whose first part stands at this place."""
    return f"{run}-{max(1, attempt)}-{place}"


def first_place(parts: Sequence[AnyPart], place: int) -> int:
    """The place of the first part of the message that this part belongs to."""
    first = place
    if isinstance(parts[place], ToolResultPart):
        return first
    for earlier in range(place - 1, -1, -1):
        if isinstance(parts[earlier], ToolResultPart):
            break
        if isinstance(parts[earlier], ModelPart):
            first = earlier
    return first


def reply_messages(
    run: UUID, attempt: int, parts: Sequence[AnyPart], ending: Ending | None = None
) -> list[Json]:
    shown: list[Json] = []
    for place, part in enumerate(parts):
        id = message_id(run, attempt, place)
        match part:
            case TextPart() | ReasoningPart() | ToolCallPart():
                if not shown or shown[-1]["type"] != "ai":
                    shown.append(plain_message("ai", id, ""))
                _add(shown[-1], part)
            case ToolResultPart():
                shown.append(tool_message(id, part, parts))
    last = next((one for one in reversed(shown) if one["type"] == "ai"), None)
    if ending and last:
        last |= outcome(ending)
    return shown


def tool_message(id: str, part: ToolResultPart, parts: Sequence[AnyPart]) -> Json:
    """The message of a tool's result. An output that is not text is sent as JSON."""
    content = part.output if part.error is None else part.error
    names = [one.name for one in parts if isinstance(one, ToolCallPart) and one.call == part.call]
    return {
        "type": "tool",
        "id": id,
        "content": content if isinstance(content, str) else orjson.dumps(content).decode(),
        "tool_call_id": part.call,
        "name": names[0] if names else None,
        "status": "success" if part.error is None else "error",
        "additional_kwargs": {"truncated": True} if part.truncated else {},
        "response_metadata": {},
    }


def chunk(id: str, part: TextPart | ReasoningPart, text: str) -> Json:
    """More text or reasoning of a model's message; a client appends it to the message's text."""
    if isinstance(part, ReasoningPart):
        return _message("AIMessageChunk", id, "", {"reasoning_content": text})
    return _message("AIMessageChunk", id, text, {})


def call_chunk(id: str, part: ToolCallPart, index: int) -> Json:
    """A whole tool call of a model's message. `index` counts the calls of that message."""
    call = {
        "type": "tool_call_chunk",
        "name": part.name,
        "args": orjson.dumps(part.input).decode(),
        "id": part.call,
        "index": index,
    }
    return {**chunk(id, TextPart(text=""), ""), "tool_call_chunks": [call]}


def outcome(ending: Ending) -> Json:
    """The fields that the model's last message gets when the run has ended."""
    usage = ending.usage
    finish = {"finish_reason": ending.finish_reason} if isinstance(ending, RunCompleted) else {}
    return {
        "usage_metadata": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
        "response_metadata": {**finish, "estimated": usage.estimated},
    }


def plain_message(type: str, id: str, content: str) -> Json:
    """A message of text alone. `type`: `human`, `system`, or `ai`."""
    calls: Json = {"tool_calls": [], "invalid_tool_calls": []} if type == "ai" else {}
    return _message(type, id, content, {}) | calls


def _message(type: str, id: str, content: str, kwargs: Json) -> Json:
    return {
        "type": type,
        "id": id,
        "content": content,
        "additional_kwargs": kwargs,
        "response_metadata": {},
    }


def _add(message: Json, part: ModelPart) -> None:
    match part:
        case TextPart(text=text):
            message["content"] += text
        case ReasoningPart(text=text):
            kwargs = message["additional_kwargs"]
            kwargs["reasoning_content"] = kwargs.get("reasoning_content", "") + text
        case ToolCallPart(call=call, name=name, input=input):
            message["tool_calls"].append(
                {"type": "tool_call", "name": name, "args": input, "id": call}
            )
