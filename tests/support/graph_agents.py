"""Agents of LangChain's own `create_agent`, with the scripted model and three tools.

At the end of a reply the graph appends its own messages, as one JSON line, to the file `record` of
the metadata. A test compares them with what readers received.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import after_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.config import get_stream_writer
from pydantic import SecretStr

from tests.support.agents import scripted
from workers.agents import Part, Source, Turn, current_turn, graph


@tool
def clock(zone: str) -> str:
    """Tell the time."""
    return f"noon in {zone}"


@tool
async def search(words: str) -> list[dict[str, str]]:
    """Find pages."""
    get_stream_writer()(Source(f"About {words}", f"https://example.org/{words}"))
    get_stream_writer()({"found": words})
    return [{"page": words}]


@tool
async def divide(by: int) -> float:
    """Divide 12."""
    if not by:
        raise ZeroDivisionError(f"swordfish of {current_turn().question}")
    return 12 / by


@after_agent  # type: ignore[untyped-decorator]  # mypy skips langchain: see pyproject.toml
def record(state: AgentState[Any], runtime: Any) -> None:
    """Append the graph's messages of this turn to the record."""
    turn = current_turn()
    if path := turn.metadata.get("record"):
        history = len(turn.messages())
        parts = parts_of(state["messages"][history:])
        line = json.dumps({"run": str(turn.run), "attempt": turn.attempt, "parts": parts})
        with Path(path).open("a") as file:
            file.write(line + "\n")


def parts_of(messages: list[Any]) -> list[dict[str, Any]]:
    """The text, the calls and the results that the messages hold, as parts."""
    parts: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            output = {"call": message.tool_call_id, "output": message.content}
            parts.append({"type": "tool_result", **output})
        elif isinstance(message, AIMessage):
            if message.text:
                parts.append({"type": "text", "text": message.text})
            for call in message.tool_calls:
                made = {"call": call["id"], "name": call["name"], "input": call["args"]}
                parts.append({"type": "tool_call", **made})
    return parts


UNUSED = SecretStr("unused")
TOOLS = [clock, search, divide]
SAFE = {"clock", "search"}

three_tools = graph(
    create_agent(
        ChatOpenAI(model="scripted", api_key=UNUSED, max_retries=0, streaming=True),
        TOOLS,
        middleware=[record],
    ),
    repeat=SAFE,
)
anthropic = graph(
    create_agent(
        ChatAnthropic(  # type: ignore[call-arg]  # mypy does not know the aliases of its fields
            model="scripted",
            base_url=os.environ.get("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
            api_key=UNUSED,
            max_retries=0,
        ),
        TOOLS,
    ),
    repeat=SAFE,
)


async def then_openai(turn: Turn) -> AsyncIterator[str | Part]:
    """Follow a script of tests/support/agents.py; leave any other question to OpenAI's graph."""
    async with aclosing(_chosen(turn, three_tools)) as items:
        async for item in items:
            yield item


async def then_anthropic(turn: Turn) -> AsyncIterator[str | Part]:
    """As `then_openai`, with Anthropic's wire."""
    async with aclosing(_chosen(turn, anthropic)) as items:
        async for item in items:
            yield item


def _chosen(turn: Turn, other: Any) -> Any:
    return scripted(turn) if turn.question.startswith("[") else other(turn)
