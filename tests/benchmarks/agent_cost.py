"""What the engine adds to a token of an agent: processor time against the same graph alone.

    python -m tests.benchmarks.agent_cost [<tokens> [<pairs>]]

Reads one LangGraph graph in the engine's modes with its results dropped, and then through the
engine, in pairs. Prints the µs a token of each, and the median ratio; then the same for a plain
generator, which has nothing of its own to pay.
"""

import asyncio
import gc
import os
import statistics
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import django
import uvloop


def scripted_graph(tokens: int) -> Any:
    """A graph of one model that streams so many tokens without a network."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langgraph.graph import START, MessagesState, StateGraph

    class Scripted(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("unused"))])

        def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
            raise NotImplementedError

        async def _astream(
            self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
        ) -> AsyncIterator[ChatGenerationChunk]:
            for number in range(tokens):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"word{number} "))
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
                await asyncio.sleep(0)

    model = Scripted()

    async def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak").compile()


async def alone(graph: Any, tokens: int) -> float:
    """µs a token of the graph with its results dropped."""
    from workers.agents.graph import MODES

    options = {"stream_mode": MODES, "version": "v2", "subgraphs": True}
    began = time.process_time()
    async for _ in graph.astream({"messages": [("user", "Go")]}, **options):
        pass
    return 1e6 * (time.process_time() - began) / tokens


async def through_engine(agent: Any, tokens: int) -> float:
    """µs a token of the agent as the attempt reads it."""
    from workers.agents.reply import reply_of
    from workers.agents.testing import turn_of

    began = time.process_time()
    async with aclosing(reply_of(agent, turn_of("Go"))) as items:
        async for _ in items:
            pass
    return 1e6 * (time.process_time() - began) / tokens


async def main(tokens: int, pairs: int) -> None:
    from workers.agents import Turn, graph

    async def plain(turn: Turn) -> AsyncIterator[str]:
        for number in range(tokens):
            yield f"word{number} "

    built = scripted_graph(tokens)
    agent = graph(built)
    await alone(built, tokens)
    await through_engine(agent, tokens)
    gc.collect()
    gc.freeze()  # as a worker does at its start
    rows = [(await alone(built, tokens), await through_engine(agent, tokens)) for _ in range(pairs)]
    for name, costs in zip(("alone", "engine"), zip(*rows, strict=True), strict=True):
        print(f"{name:7}{statistics.median(costs):8.1f} µs a token")
    print(f"ratio  {statistics.median(engine / bare for bare, engine in rows):8.2f}")
    plains = [await through_engine(plain, tokens) for _ in range(pairs)]
    print(f"plain  {statistics.median(plains):8.1f} µs a token")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    warnings.simplefilter("ignore")
    django.setup()
    numbers = [int(word) for word in sys.argv[1:]]
    uvloop.run(main(*(numbers + [2000, 10][len(numbers) :])))
