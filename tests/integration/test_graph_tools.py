"""The calls of a graph's tools: at most once, hidden, failing or slow."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import SecretStr

from tests.integration.support.graph_tools import THREE, script
from tests.support import openai_server
from tests.support.script import expected
from workers.agents import graph
from workers.agents.message_reader import FAILED
from workers.agents.testing import run, turn_of
from workers.agents.turn import Control

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
