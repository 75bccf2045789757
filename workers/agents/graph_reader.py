"""Turns the events of a LangGraph graph into text and parts."""

from collections.abc import Collection, Iterator
from typing import Any, get_args

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from workers.agents.callbacks import Repeat
from workers.agents.graph_calls import GraphCalls, Namespace
from workers.agents.graph_texts import GraphTexts
from workers.agents.parts import Data, Finish, Part


class GraphReader:
    """Reads the events of one run of a graph.

    `known` holds the ids of the graph's input messages. If a node returns one of these, its tool
    calls are ignored.
    """

    def __init__(
        self,
        *,
        repeat: Repeat,
        hidden: Collection[str],
        nodes: Collection[str] | None,
        known: Collection[str],
    ) -> None:
        self._nodes = nodes
        self._texts = GraphTexts(repeat)
        self._calls = GraphCalls(hidden, known)

    def read(self, event: dict[str, Any]) -> Iterator[str | Part]:
        """Yield the text and parts that the event contains."""
        namespace, data = event["ns"], event["data"]
        match event["type"]:
            case "messages":
                message, metadata = data
                node = metadata.get("langgraph_node", "")
                if isinstance(message, ToolMessage):
                    yield from self._parts(self._calls.of_result(namespace, message))
                elif isinstance(message, AIMessage) and self._is_said(namespace, node):
                    task = metadata.get("langgraph_checkpoint_ns", node)
                    yield from self._texts.read(message, task)
            case "updates":
                yield from self._updates(namespace, data)
            case "tools":
                yield from self._parts(self._calls.of_tool(namespace, data))
            case "custom":
                yield from self._parts(_custom(data))

    def end(self) -> Iterator[str | Part]:
        """Yield all text that still waits, then `Finish`. Call it once the graph has ended."""
        yield from self._texts.end()
        yield Finish(self._texts.reason or "stop")

    def _updates(self, namespace: Namespace, data: dict[str, Any]) -> Iterator[str | Part]:
        """Yield the calls and results in the messages that nodes returned, which are complete."""
        if "__interrupt__" in data:
            raise NotImplementedError("a graph that waits for a person cannot be an agent yet")
        for update in data.values():
            for message in _messages_in(update):
                if isinstance(message, AIMessage):
                    yield from self._texts.release(message)
                    yield from self._parts(self._calls.of_message(namespace, message))
                elif isinstance(message, ToolMessage):
                    yield from self._parts(self._calls.of_result(namespace, message))

    def _parts(self, parts: Iterator[Part]) -> Iterator[Part]:
        for part in parts:
            self._texts.interrupt()
            yield part

    def _is_said(self, namespace: Namespace, node: str) -> bool:
        """Whether readers see this node's text: `nodes` has the node or a node around it."""
        around = [segment.split(":")[0] for segment in namespace]
        return self._nodes is None or any(name in self._nodes for name in (*around, node))


def _messages_in(update: Any) -> Iterator[BaseMessage]:
    """Yield the messages in a node's return value: a message, a list, or one or several states."""
    match update:
        case BaseMessage():
            yield update
        case dict():
            for value in update.values():
                if isinstance(value, BaseMessage | list | tuple):
                    yield from _messages_in(value)
        case list() | tuple():
            for value in update:
                if isinstance(value, BaseMessage | dict):
                    yield from _messages_in(value)


def _custom(data: Any) -> Iterator[Part]:
    """Yield a part as it is, and any other value as data that replaces data of the same name."""
    if isinstance(data, get_args(Part)):
        yield data
    elif isinstance(data, dict):
        for name, value in data.items():
            yield Data(str(name), value, str(name))
    else:
        yield Data("custom", data, "custom")
