"""Tools for graphs, and the texts, calls and results in a graph's messages and in a reply."""

import json
import threading
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer

from streams.protocol.parts import AnyPart, TextPart, ToolCallPart, ToolResultPart
from workers.agents import Source


def script(**wishes: Any) -> str:
    return json.dumps(wishes)


@tool
def clock(zone: str) -> str:
    """Tell the time."""
    assert threading.current_thread() is not threading.main_thread()
    return f"noon in {zone}"


@tool
async def search(words: str) -> list[dict[str, str]]:
    """Find pages."""
    get_stream_writer()(Source("A page", "https://example.org/a"))
    get_stream_writer()({"found": 1})
    get_stream_writer()({"found": 2})
    return [{"page": words}]


@tool
async def refund(order: int) -> str:
    """Give money back."""
    return f"refunded {order}"


THREE = [clock, search, refund]
ROUNDS = [
    [["clock", {"zone": "UTC"}], ["refund", {"order": 1}]],
    [["refund", {"order": 2}]],
    [["search", {"words": "x"}]],
]


def parts_of(messages: list[Any]) -> list[tuple[Any, ...]]:
    """The graph's own messages after the question, in the form of `seen`."""
    found: list[tuple[Any, ...]] = []
    for message in messages[1:]:
        if isinstance(message, AIMessage):
            found += [("text", message.text)] if message.text else []
            found += [("call", call["name"], call["args"]) for call in message.tool_calls]
        elif isinstance(message, ToolMessage):
            found.append(("result", message.content))
    return found


def seen(parts: tuple[AnyPart, ...]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                found.append(("text", text))
            case ToolCallPart(name=name, input=input):
                found.append(("call", name, input))
            case ToolResultPart(output=output):
                found.append(("result", output))
    return found
