"""Demonstration: a LangGraph graph with a clock, a calculator and a search in the documents.

The embedded model is too small to choose tools. So a node with plain rules chooses the tool. The
model answers only the questions for which there is no tool.
"""

import re
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from workers.agents.demos import arithmetic, documents
from workers.agents.graph import graph
from workers.agents.parts import Source
from workers.generators.openai import chat_model

ZONES = {
    "utc": "UTC",
    "london": "Europe/London",
    "berlin": "Europe/Berlin",
    "paris": "Europe/Paris",
    "new york": "America/New_York",
    "tokyo": "Asia/Tokyo",
}
TIME = re.compile(r"\b(what time|the time|current time|what date|what day|today|clock)\b", re.I)
SEARCH = re.compile(
    r"\b(unspool|search|docs?|documents?|documentation|setting|stream|worker|redis|celery|agent|"
    r"conversation|run|cursor|resume|lease|epoch|fence|deploy|pushpin)s?\b",
    re.I,
)
SHOWN = 400  # characters of the best section, in the answer
BRIEF = 60  # characters of each section, in the tool's result


@tool
def clock(zone: str) -> str:
    """Tell the date and the time in a time zone such as Europe/Berlin."""
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        now = datetime.now(UTC)
    return now.strftime("%A, %d %B %Y, %H:%M %Z")


@tool
def calculator(expression: str) -> str:
    """Calculate an arithmetic expression."""
    try:
        value = arithmetic.evaluate(expression)
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"
        return f"{expression} = {shown}"
    except ValueError as error:
        return f"{expression}: {error}"


@tool
def search_documents(query: str) -> list[dict[str, str]]:
    """Find sections of this project's documents."""
    found = documents.search(query)
    write = get_stream_writer()
    for section in found:
        write(Source(section.title, source=section.source))
    return [
        {"source": one.source, "text": shorten(one.text, BRIEF, placeholder="…")} for one in found
    ]


def choose(state: MessagesState) -> dict[str, Any]:
    """Return a call of the tool that fits the question, or no message if no tool fits."""
    question = state["messages"][-1].text
    if expression := arithmetic.find(question):
        call = ("calculator", {"expression": expression})
    elif TIME.search(question):
        place = next((zone for name, zone in ZONES.items() if name in question.lower()), "UTC")
        call = ("clock", {"zone": place})
    elif SEARCH.search(question) and documents.search(question):
        call = ("search_documents", {"query": question[:200]})
    else:
        return {"messages": []}
    name, args = call
    made = {"name": name, "args": args, "id": f"call_{uuid4().hex[:12]}"}
    return {"messages": [AIMessage("", tool_calls=[made])]}


def was_called(state: MessagesState) -> str:
    """Return the next node: the tools if one was called, otherwise the model."""
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "model"


def answer(state: MessagesState) -> dict[str, Any]:
    """Answer with the tool's result."""
    result = state["messages"][-1]
    assert isinstance(result, ToolMessage)
    if result.name == "clock":
        text = f"It is {result.text}."
    elif result.name == "calculator":
        text = result.text
    else:
        question = next(m for m in reversed(state["messages"]) if m.type == "human")
        best = documents.search(question.text)[0]
        shown = best.text[:SHOWN].rsplit("\n", 1)[0].rstrip()
        text = f"From *{best.source}*:\n\n{shown}"
    return {"messages": [AIMessage(text)]}


async def model(state: MessagesState) -> dict[str, Any]:
    """Let the model of this service answer."""
    speaker = await chat_model(settings.LLM_MODEL)
    return {"messages": [await speaker.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("choose", choose)
builder.add_node("tools", ToolNode([clock, calculator, search_documents]))
builder.add_node("answer", answer)
builder.add_node("model", model)
builder.add_edge(START, "choose")
builder.add_conditional_edges("choose", was_called, ["tools", "model"])
builder.add_edge("tools", "answer")
builder.add_edge("answer", END)
builder.add_edge("model", END)

agent = graph(builder.compile(), repeat=True)
