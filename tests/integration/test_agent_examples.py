"""Agents as a team would write them, against scripted model servers, each in a few lines."""

import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from streams.protocol.parts import ToolCallPart, ToolResultPart
from tests.support import anthropic_server, openai_server
from tests.support.script import expected
from workers.agents import Part, ToolCall, ToolResult, Turn, chat, graph, runnable
from workers.agents.testing import run

# LangChain shares an HTTP client between all models of one URL, so they need one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The /v1 of a scripted server that speaks OpenAI's wire."""
    with openai_server.serving(closes=True) as server:
        yield server.url


@pytest.fixture(scope="module")
def anthropic() -> Iterator[anthropic_server.Anthropic]:
    """A scripted server that speaks Anthropic's wire."""
    with anthropic_server.serving() as server:
        yield server


def script(**wishes: object) -> str:
    return json.dumps(wishes)


async def test_a_chain_of_prompt_model_and_parser(base_url: str) -> None:
    model = ChatOpenAI(model="scripted", base_url=base_url, api_key="unused")
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
    agent = runnable(prompt | model | StrOutputParser())

    question = script(tokens=30)
    reply = await run(agent, question)

    assert (reply.text, reply.finish_reason) == (expected(question), "stop")


async def test_a_graph_with_a_subgraph_and_two_models(base_url: str) -> None:
    @tool
    def clock(zone: str) -> str:
        """Tell the time."""
        return f"noon in {zone}"

    model = ChatOpenAI(model="a", base_url=base_url, api_key="unused")
    researcher = create_agent(model, tools=[clock], name="researcher")
    writer = ChatOpenAI(model="b", base_url=base_url, api_key="unused")
    builder = StateGraph(MessagesState)
    builder.add_node("researcher", researcher)
    builder.add_node("writer", lambda state: {"messages": writer.invoke(state["messages"][:1])})
    builder.add_edge(START, "researcher").add_edge("researcher", "writer").add_edge("writer", END)
    agent = graph(builder.compile(), repeat={"clock"})

    reply = await run(agent, question := script(tokens=3, calls=[[["clock", {"zone": "UTC"}]]]))

    assert reply.parts[:2] == (
        ToolCallPart(call="call_0", name="clock", input={"zone": "UTC"}),
        ToolResultPart(call="call_0", output="noon in UTC"),
    )
    assert (reply.text, reply.called) == (f"{expected(question)}", False)


async def test_a_plain_generator_with_a_tool(base_url: str) -> None:
    client = openai.AsyncOpenAI(base_url=base_url, api_key="unused")

    async def agent(turn: Turn) -> AsyncIterator[str | Part]:
        call = ToolCall("orders", {"owner": turn.owner}, repeat=True)
        yield call
        yield ToolResult(call.call, [{"order": 7, "state": "sent"}])
        request = client.chat.completions.create(
            model="scripted", messages=turn.messages(), stream=True
        )
        async with await request as chunks:
            async for chunk in chunks:
                yield chunk.choices[0].delta.content or ""

    reply = await run(agent, question := script(tokens=5))

    assert (reply.text, reply.calls[0].name) == (expected(question), "orders")


async def test_a_chat_model_of_a_second_provider(anthropic: anthropic_server.Anthropic) -> None:
    model = init_chat_model(
        "anthropic:claude", base_url=anthropic.url, api_key="unused", max_retries=0
    )
    agent = chat(model)

    question = script(tokens=20, reasoning=2, fault=529, times=1)
    reply = await run(agent, question)

    assert (reply.text, reply.finish_reason) == (expected(question), "stop")
    assert reply.reasoning
    assert len(anthropic.requests) == 2  # the first one failed
