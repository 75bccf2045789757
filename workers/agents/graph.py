"""Makes an agent of a LangGraph graph, such as one of `create_agent`.

    messages → text and reasoning      updates → the tool calls of whole messages
    tools    → tools that begin        custom  → data, or parts of `workers.agents`

The graph's own events are not passed on, because they hold prompts. This module needs LangChain's
core alone: the graph brings LangGraph with it.
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
    """Make an agent of a LangGraph graph.

    `repeat` says which tools may be called twice for one question: all (True), none, or those with
    these names. `hidden` names tools that readers are not told of. `nodes` names the nodes whose
    text they are told, with all that runs inside them; by default every node's is. Models with the
    tag `nostream` are never said.

    The graph gets `input(turn)`, by default the conversation as `messages`. With a checkpointer
    each attempt has a thread of its own, `<run>:<attempt>`, which is deleted at the end, because
    the history is the service's.
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
        await _delete_threads(graph, turn, range(1, turn.attempt))  # of attempts that were killed
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
    """The conversation, with ids: a node that returns such a message says nothing new."""
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
    """Delete the checkpoints of these attempts, if the graph keeps any."""
    if delete := getattr(graph.checkpointer, "adelete_thread", None):
        for attempt in attempts:
            try:
                await delete(_thread(turn, attempt))
            except Exception:
                logger.exception("run %s: its checkpoints are not deleted", turn.run)
