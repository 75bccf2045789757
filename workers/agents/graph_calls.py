"""The tool calls of a graph: calls in messages, and tools that a node starts without a message.

Model servers repeat ids such as `call_0`, also in parallel subgraphs. So a call is identified by
its subgraph and its id. Every call is yielded with `repeat=True`, because the graph's callbacks
store the calls that must not be repeated, before their tools begin.
"""

from collections.abc import Collection, Iterator
from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from workers.agents.message_reader import FAILED
from workers.agents.parts import Part, ToolCall, ToolResult

Namespace = tuple[str, ...]
Key = tuple[Namespace, str]  # the subgraph, and the id that the model's server gave


class GraphCalls:
    """The calls of one run of a graph."""

    def __init__(self, hidden: Collection[str], known: Collection[str]) -> None:
        self._hidden = hidden
        self._read = set(known)  # ids of messages whose calls and results were yielded
        self._open: dict[Key, list[str]] = {}  # the ids under which they were yielded
        self._unnamed: set[Key] = set()  # open calls that are in no message
        self._silent: list[Key] = []  # open calls of hidden tools
        self._numbers = count(2)

    def of_message(self, namespace: Namespace, message: AIMessage) -> Iterator[Part]:
        """Yield the calls of a complete message."""
        if str(message.id) in self._read:
            return
        self._read.add(str(message.id))
        for call in message.tool_calls:
            key = (namespace, call["id"] or "call")
            yield from self._begin(key, call["name"], call["args"])

    def of_result(self, namespace: Namespace, message: ToolMessage) -> Iterator[Part]:
        """Yield the result in a tool's message, or nothing if the call was not yielded."""
        if str(message.id) in self._read:
            return
        self._read.add(str(message.id))
        key = self._find((namespace, message.tool_call_id))
        if key in self._silent:
            self._silent.remove(key)
        elif key in self._open and key not in self._unnamed:
            yield self._end(key, message)

    def of_tool(self, namespace: Namespace, event: dict[str, Any]) -> Iterator[Part]:
        """Yield a call that is in no message, or the result of such a call."""
        key = self._find((namespace, event["tool_call_id"]))
        match event["event"]:
            case "tool-started" if key not in self._open and key not in self._silent:
                self._unnamed.add(key)
                yield from self._begin(key, event["tool_name"], event.get("input") or {})
            case "tool-finished" | "tool-error" if key in self._unnamed:
                self._unnamed.discard(key)
                if key in self._silent:
                    self._silent.remove(key)
                else:
                    yield self._end(key, event.get("output"), event["event"] == "tool-error")

    def _find(self, key: Key) -> Key:
        """Return the key if its call is open, otherwise an open key with the same id, if any."""
        if key in self._open or key in self._silent:
            return key
        same_id = (other for other in (*self._open, *self._silent) if other[1] == key[1])
        return next(same_id, key)

    def _begin(self, key: Key, name: str, input: dict[str, Any]) -> Iterator[Part]:
        if name in self._hidden:
            self._silent.append(key)
            return
        said = [id for ids in self._open.values() for id in ids]
        id = key[1] if key[1] not in said else f"{key[1]}-{next(self._numbers)}"
        self._open.setdefault(key, []).append(id)
        yield ToolCall(name, input, id, repeat=True)

    def _end(self, key: Key, output: Any, failed: bool = False) -> ToolResult:
        ids = self._open[key]
        id = ids.pop(0)
        if not ids:
            del self._open[key]
        if isinstance(output, ToolMessage):
            failed, output = output.status == "error", _content_of(output)
        return ToolResult(id, error=FAILED) if failed else ToolResult(id, output)


def _content_of(message: ToolMessage) -> Any:
    """The content as one string if it consists of text only, otherwise unchanged."""
    content = message.content
    if isinstance(content, list) and all(
        isinstance(block, dict) and block.get("type") == "text" for block in content
    ):
        return "".join(block["text"] for block in content if isinstance(block, dict))
    return content
