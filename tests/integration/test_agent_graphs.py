"""LangGraph graphs as agents: what of their events becomes the reply, and when tools begin."""

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from pydantic import SecretStr

from streams.protocol.parts import DataPart, SourcePart, TextPart, ToolCallPart
from tests.integration.support.graph_tools import ROUNDS, THREE, parts_of, script, seen
from tests.support import openai_server
from tests.support.script import expected
from workers.agents import graph
from workers.agents.testing import run, turn_of
from workers.prompt.messages import PromptMessage

# LangChain shares an HTTP client between all models of one URL, so they need one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[openai_server.Running]:
    """A scripted model that makes calls."""
    with openai_server.serving(closes=True) as running:
        yield running


@pytest.fixture
def model(server: openai_server.Running) -> ChatOpenAI:
    """The scripted model, through LangChain."""
    return ChatOpenAI(
        model="scripted",
        base_url=server.url,
        api_key=SecretStr("unused"),
        max_retries=0,
        streaming=True,  # the scripted server does nothing else
        stream_usage=True,
    )


async def test_create_agent_with_three_tools_says_what_its_messages_hold(model: ChatOpenAI) -> None:
    question = script(tokens=5, calls=ROUNDS)
    built = create_agent(model, tools=THREE)
    reply = await run(graph(built), question)
    messages = (await built.ainvoke({"messages": [("user", question)]}))["messages"]
    by_kind = sorted(map(str, seen(reply.parts)))  # two tools run at once, and either ends first
    assert by_kind == sorted(map(str, parts_of(messages)))
    assert [call.call for call in reply.calls] == ["call_0", "call_1", "call_0-2", "call_0-3"]
    outputs = {result.call: result.output for result in reply.results}
    assert outputs["call_0"] == "noon in UTC"
    assert outputs["call_0-2"] == "refunded 2"
    assert reply.sources == [
        SourcePart(source="https://example.org/a", title="A page", url="https://example.org/a")
    ]
    assert [part for part in reply.parts if isinstance(part, DataPart)] == [
        DataPart(name="found", data=2, id="found")
    ]
    assert (reply.text, reply.finish_reason) == (expected(question), "stop")
    assert reply.usage is not None
    assert reply.usage.input_tokens == 4 * 7  # one request each round, and the last


async def test_models_that_speak_at_once_are_said_one_after_the_other(model: ChatOpenAI) -> None:
    async def speak(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([("user", state["ask"])])]}

    asks = [script(tokens=20, seed=n, rate=200) for n in range(3)]
    builder = StateGraph(MessagesState)
    builder.add_node("speak", speak)
    builder.add_conditional_edges(START, lambda _: [Send("speak", {"ask": ask}) for ask in asks])
    reply = await run(graph(builder.add_edge("speak", END).compile()), "Go")
    assert sorted(reply.text.split("\n\n")) == sorted(map(expected, asks))


async def test_only_named_nodes_speak_and_no_model_with_nostream(model: ChatOpenAI) -> None:
    quiet = model.with_config(tags=["nostream"])

    async def plan(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([("user", script(tokens=2, seed="plan"))])]}

    async def answer(state: MessagesState) -> dict[str, Any]:
        await quiet.ainvoke([("user", script(tokens=2, seed="quiet"))])
        return {"messages": [await model.ainvoke([("user", script(tokens=2, seed="answer"))])]}

    builder = StateGraph(MessagesState)
    builder.add_node("plan", plan)
    builder.add_node("answer", answer)
    built = builder.add_edge(START, "plan").add_edge("plan", "answer").compile()
    reply = await run(graph(built, nodes={"answer"}), "Go")
    assert reply.text == expected(script(tokens=2, seed="answer"))
    assert reply.usage is not None
    assert reply.usage.input_tokens == 3 * 7  # every model's


async def test_the_history_is_given_with_its_calls_and_not_said_again(
    model: ChatOpenAI, server: openai_server.Running
) -> None:
    call = ToolCallPart(call="past_1", name="clock", input={"zone": "UTC"})
    history = [
        PromptMessage("user", "What time is it?"),
        PromptMessage("assistant", "", (call,)),
        PromptMessage("tool", "noon", call="past_1"),
        PromptMessage("assistant", "Noon."),
    ]
    built = create_agent(model, tools=THREE, system_prompt="Be kind.")
    builder = StateGraph(MessagesState)
    builder.add_node("agent", built)
    builder.add_node("echo", lambda state: {"messages": list(state["messages"])})
    builder.add_edge(START, "agent").add_edge("agent", "echo").add_edge("echo", END)
    question = script(tokens=2)
    reply = await run(graph(builder.compile()), turn_of(question, history=history))
    assert reply.parts == (TextPart(text=expected(question)),)
    roles = [message["role"] for message in server.last()["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_the_checkpoints_of_an_attempt_are_deleted_at_its_end(model: ChatOpenAI) -> None:
    saver = InMemorySaver()
    kept: list[int] = []

    @tool("clock")
    async def look(zone: str) -> str:
        """Tell the time."""
        kept.append(len(saver.storage))
        return "noon"

    question = script(tokens=2, calls=[[["clock", {"zone": "UTC"}]]])
    agent = graph(create_agent(model, tools=[look], checkpointer=saver))
    reply = await run(agent, turn_of(question, attempt=3))
    assert (reply.code, kept, dict(saver.storage)) == (None, [1], {})


async def test_a_graph_that_waits_for_a_person_ends_with_an_error() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: interrupt("May I?"))
    built = builder.add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    reply = await run(graph(built), "Go")
    assert (reply.parts, reply.code) == ((), "agent_error")
