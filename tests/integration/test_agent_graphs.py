"""LangGraph graphs as agents: what of their events becomes the reply, and when tools begin."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from pydantic import SecretStr

from streams.protocol.parts import (
    AnyPart,
    DataPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.support import openai_server
from tests.support.script import expected
from workers.agents import Source, graph
from workers.agents.message_reader import FAILED
from workers.agents.testing import run, turn_of
from workers.agents.turn import Control
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


async def test_a_hidden_tool_is_not_said_and_its_call_is_stored(model: ChatOpenAI) -> None:
    question = script(tokens=2, calls=[[["refund", {"order": 1}], ["clock", {"zone": "UTC"}]]])
    agent = graph(create_agent(model, tools=THREE), hidden={"refund"}, repeat={"clock"})
    reply = await run(agent, question)
    assert [call.name for call in reply.calls] == ["clock"]
    assert (len(reply.results), reply.called, reply.code) == (1, True, None)


def awaited(tools: list[BaseTool], model: ChatOpenAI) -> Any:
    """A graph whose tools are awaited."""
    return create_agent(model, tools=tools)


def invoked(tools: list[BaseTool], on_loop: bool) -> Any:
    """A graph whose node invokes its first tool, in a thread or on the event loop."""

    def work(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [AIMessage(tools[0].invoke({"order": 1}, config))]}

    async def work_on_loop(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return work(state, config)

    builder = StateGraph(MessagesState)
    builder.add_node("work", work_on_loop if on_loop else work)
    return builder.add_edge(START, "work").add_edge("work", END).compile()


class TestUnsafeTools:
    """A tool that may not be called twice begins after its call is stored, or not at all."""

    @pytest.mark.parametrize("way", ["awaited", "in a thread", "on the loop"])
    @pytest.mark.parametrize("held", [True, False])
    @pytest.mark.parametrize("repeat", [False, True])
    async def test_the_call_is_stored_before_the_tool_begins(
        self, model: ChatOpenAI, way: str, held: bool, repeat: bool
    ) -> None:
        order: list[str] = []

        @tool("refund")
        def pay(order: int) -> str:
            """Give money back."""
            note("paid")
            return "paid"

        def note(fact: str) -> None:
            order.append(fact)

        def called() -> bool:
            note("stored")
            return held

        built = awaited([pay], model) if way == "awaited" else invoked([pay], way == "on the loop")
        question = script(tokens=2, calls=[[["refund", {"order": 1}]]])
        agent = graph(built, repeat={"refund"} if repeat else ())
        reply = await run(agent, turn_of(question, control=Control(called)))
        if repeat:
            assert (order, reply.code) == (["paid"], None)
        elif held:
            assert (order, reply.code) == (["stored", "paid"], None)
        else:
            assert (order, reply.code) == (["stored"], "superseded")


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


@pytest.mark.parametrize("handled", [True, False])
async def test_the_text_of_a_tools_exception_is_nowhere_in_the_reply(
    model: ChatOpenAI, handled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @tool("refund")
    def fails(order: int) -> str:
        """Give money back."""
        raise ValueError("the password is 1234")

    fails.handle_tool_error = True
    if handled:
        fails.func, raising = _raise_tool_exception, "handled by LangChain"
    else:
        raising = "not handled"
    question = script(tokens=2, calls=[[["refund", {"order": 1}]]])
    reply = await run(graph(create_agent(model, tools=[fails])), question)
    assert "1234" not in repr(reply), raising
    if handled:
        assert [result.error for result in reply.results] == [FAILED]
        assert (reply.code, reply.text) == (None, expected(question))
    else:
        assert (reply.results, reply.code) == ([], "agent_error")
        assert "1234" in caplog.text


def _raise_tool_exception(order: int) -> str:
    from langchain_core.tools import ToolException

    raise ToolException("the password is 1234")


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


async def test_a_tool_that_takes_long_is_no_silent_model(model: ChatOpenAI, settings: Any) -> None:
    settings.MODEL_READ_TIMEOUT = settings.TOOL_TIMEOUT = 30.0

    @tool("clock")
    async def slow(zone: str) -> str:
        """Tell the time."""
        settings.MODEL_READ_TIMEOUT = 0.1  # not before: the real model may take longer to reply
        await asyncio.sleep(1.5)  # longer than a model may be silent, which is what is tested
        settings.MODEL_READ_TIMEOUT = 30.0
        return "noon"

    question = script(tokens=2, calls=[[["clock", {"zone": "UTC"}]]])
    reply = await run(graph(create_agent(model, tools=[slow]), hidden={"clock"}), question)
    assert (reply.code, reply.text) == (None, expected(question))
