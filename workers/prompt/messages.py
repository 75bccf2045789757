"""The messages of a prompt, as every chat model takes them: roles, text, tool calls and results."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from streams.protocol.parts import ToolCallPart


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message of the prompt.

    An assistant's message may hold `calls`. A message of role `tool` holds the result of the call
    that has the id `call`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCallPart, ...] = ()
    call: str | None = None


def encode_input(call: ToolCallPart) -> str:
    """The input of the call as a model's server takes it."""
    return orjson.dumps(call.input).decode()


def text_only(messages: Iterable[PromptMessage]) -> list[PromptMessage]:
    """The messages without tool calls and results. Messages without text are left out."""
    texts = [PromptMessage(message.role, message.content) for message in messages]
    return [text for text in texts if text.role != "tool" and text.content.strip()]


def as_dicts(messages: Iterable[PromptMessage], *, tools: bool) -> list[dict[str, Any]]:
    """The messages in OpenAI's form. With `tools=False`, only their text."""
    return [_as_dict(message) for message in (messages if tools else text_only(messages))]


def _as_dict(message: PromptMessage) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.call is not None:
        body["tool_call_id"] = message.call
    if message.calls:
        body["tool_calls"] = [
            {
                "id": call.call,
                "type": "function",
                "function": {"name": call.name, "arguments": encode_input(call)},
            }
            for call in message.calls
        ]
    return body
