"""Turns a LangGraph graph, such as one that `create_agent` returns, into an agent.

Each stream mode of the graph gives other parts of the reply:

    messages → text and reasoning      updates → the tool calls of complete messages
    tools    → tools that begin        custom  → data, or parts of `workers.agents`

Readers never get the graph's own events, because these contain prompts. This module imports only
LangChain's core; the code that builds the graph imports LangGraph.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, convert_to_messages

from workers.agents.callbacks import Repeat, callbacks_of
from workers.agents.graph_reader import GraphReader
from workers.agents.parts import Part
from workers.agents.runnable import Generator
from workers.agents.turn import Turn

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    Graph = Pregel[Any, Any, Any, Any]

MODES = ["messages", "tools", "custom", "updates"]

logger = logging.getLogger(__name__)


def graph(
    graph: "Graph",
    *,
    repeat: Repeat = False,
    hidden: Collection[str] = (),
    nodes: Collection[str] | None = None,
    input: Callable[[Turn], Any] | None = None,
) -> Generator:
    """Turn a LangGraph graph into an agent.

    `repeat` says which tools may be called twice for one question: all (True), none, or those with
    these names. `hidden` names tools whose calls readers do not see. `nodes` names the nodes whose
    text readers see, including the text of subgraphs inside them; by default they see the text of
    every node. Readers never see the text of models with the tag `nostream`.

    The graph gets `input(turn)`, by default the conversation as `messages`. If the graph has a
    checkpointer, each attempt uses its own thread, `<run>:<attempt>`. The thread is deleted at the
    end, because the service itself stores the history.
    """
    give = input or _messages

    async def agent(turn: Turn) -> AsyncGenerator[str | Part, None]:
        counter, callbacks = callbacks_of(turn.control, repeat)
        given = give(turn)
        reader = GraphReader(repeat=repeat, hidden=hidden, nodes=nodes, known=_ids_in(given))
        config = {
            "callbacks": callbacks,
            "configurable": {"thread_id": _thread(turn, turn.attempt)},
        }
        options: dict[str, Any] = {"stream_mode": MODES, "version": "v2", "subgraphs": True}
        if graph.checkpointer:
            options["durability"] = "sync"
        await _delete_threads(graph, turn, range(1, turn.attempt))  # left by killed attempts
        try:
            astream: Any = graph.astream  # its types do not know the mode `tools`
            async with aclosing(astream(given, config, **options)) as events:
                async for event in events:
                    for item in reader.read(event):
                        yield item
            if counter.usage:
                yield counter.usage
            for item in reader.end():
                yield item
        finally:
            await _delete_threads(graph, turn, [turn.attempt])

    return agent


def _messages(turn: Turn) -> dict[str, list[BaseMessage]]:
    """The conversation as messages with ids. If a node returns one of them, it is not repeated."""
    messages = convert_to_messages(turn.messages())
    for number, message in enumerate(messages):
        message.id = f"{turn.run}:{number}"
    return {"messages": messages}


def _ids_in(given: Any) -> set[str]:
    messages = given.get("messages", ()) if isinstance(given, dict) else ()
    return {message.id for message in messages if isinstance(message, BaseMessage) and message.id}


def _thread(turn: Turn, attempt: int) -> str:
    return f"{turn.run}:{attempt}"


async def _delete_threads(graph: "Graph", turn: Turn, attempts: Iterable[int]) -> None:
    """Delete the checkpoints of these attempts, if the graph stores checkpoints."""
    if delete := getattr(graph.checkpointer, "adelete_thread", None):
        for attempt in attempts:
            try:
                await delete(_thread(turn, attempt))
            except Exception:
                logger.exception("run %s: its checkpoints are not deleted", turn.run)
