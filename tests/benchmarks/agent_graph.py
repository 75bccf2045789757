"""The graph that `tests.benchmarks.agents` measures. Its model sends a given number of tokens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from workers.agents import Turn, graph

AGENT = "tests.benchmarks.agent_graph.agent"  # dotted paths, for the setting AGENTS
PLAIN = "tests.benchmarks.agent_graph.plain"


class Scripted(BaseChatModel):
    """Streams as many tokens as the last message says, without a network."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("unused"))])

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(int(messages[-1].text)):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"word{number} "))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
            await asyncio.sleep(0)


model = Scripted()


async def _speak(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


built = StateGraph(MessagesState).add_node("speak", _speak).add_edge(START, "speak").compile()
agent = graph(built)


async def plain(turn: Turn) -> AsyncIterator[str]:
    """The same tokens from a plain generator, which itself costs almost nothing."""
    for number in range(int(turn.question)):
        yield f"word{number} "
