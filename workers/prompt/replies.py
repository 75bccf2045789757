"""Converts a stored reply to prompt messages: texts, and tool calls, each with its result.

A model's server refuses a call without a result, a result without its call, an id that occurs
twice, and names with other characters than letters, digits, `_` and `-`. So this module pairs and
numbers the calls, whatever is stored.
"""

import re
from collections.abc import Iterable, Iterator

import orjson

from streams.protocol.parts import AnyPart, TextPart, ToolCallPart, ToolResultPart
from workers.prompt.messages import PromptMessage

INTERRUPTED = "interrupted; outcome unknown"  # the result of a call that was cut off
CUT_OFF = ("cancelled", "worker_lost", "failed")  # `error` of a call that the engine closed
NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_-]")
LONGEST_NAME = 64  # characters


def messages_of(parts: Iterable[AnyPart], numbers: Iterator[int]) -> list[PromptMessage]:
    """The assistant's messages and the tools' results of one reply.

    The ids of the calls come from `numbers`, so they are unique in the prompt. Reasoning, sources
    and data are left out, and so are calls that the provider executed.
    """
    parts = list(parts)
    results = {part.call: part for part in parts if isinstance(part, ToolResultPart)}
    messages: list[PromptMessage] = []
    texts: list[str] = []
    calls: list[ToolCallPart] = []
    answered = False  # a result followed the calls, so the model wrote the next text after it
    for part in parts:
        match part:
            case TextPart() | ToolCallPart(executed=None) if answered and calls:
                messages += _round(texts, calls, results, numbers)
                texts, calls, answered = [], [], False
        match part:
            case TextPart(text=text):
                texts.append(text)
            case ToolCallPart(executed=None):
                calls.append(part)
            case ToolResultPart(call=id):
                answered = answered or any(call.call == id for call in calls)
    return messages + _round(texts, calls, results, numbers)


def _round(
    texts: list[str],
    calls: list[ToolCallPart],
    results: dict[str, ToolResultPart],
    numbers: Iterator[int],
) -> list[PromptMessage]:
    """Return the assistant's message and the results of its calls. Empty without text and calls."""
    if not calls and not "".join(texts).strip():
        return []
    named = [
        ToolCallPart(
            call=f"past_{next(numbers)}",
            name=NOT_IN_NAMES.sub("_", call.name)[:LONGEST_NAME],
            input=call.input,
        )
        for call in calls
    ]
    said = PromptMessage("assistant", "".join(texts), tuple(named))
    return [said, *map(_result, named, [results.get(call.call) for call in calls])]


def _result(call: ToolCallPart, result: ToolResultPart | None) -> PromptMessage:
    if result is None or result.error in CUT_OFF:
        return PromptMessage("tool", INTERRUPTED, call=call.call)
    if result.error is not None:
        return PromptMessage("tool", f"error: {result.error}", call=call.call)
    output = result.output
    text = output if isinstance(output, str) else orjson.dumps(output).decode()
    note = " [truncated]" if result.truncated else ""
    return PromptMessage("tool", text + note, call=call.call)


def has_calls(parts: Iterable[AnyPart]) -> bool:
    """Whether the reply holds a tool call."""
    return any(isinstance(part, ToolCallPart) for part in parts)
