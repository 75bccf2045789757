"""Reads a LangChain message, chunk by chunk: text, reasoning, sources, and the provider's calls.

It leaves out the calls of tools that run in this process. `graph_calls` yields those once they are
complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from langchain_core.messages import BaseMessage

from workers.agents.callbacks import Repeat, may_repeat
from workers.agents.parts import Part, Reasoning, Source, ToolCall, ToolResult

REASONS = {  # Anthropic's finish reasons, with OpenAI's word for each
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
FAILED = "The tool reported an error."  # its own text may contain an exception


@dataclass(slots=True)
class _Begun:
    """A call that the provider executes, from the chunks that have arrived."""

    id: str
    name: str
    arguments: str = ""


class MessageReader:
    """Reads one message. `repeat` declares which tools of the provider may be called twice."""

    def __init__(self, repeat: Repeat = False) -> None:
        self._repeat = repeat
        self._begun: dict[object, _Begun] = {}  # by the index of the call's block
        self._sources: set[str] = set()

    def read(self, message: BaseMessage) -> Iterator[str | Part]:
        """Yield the text and parts of the message, or of its next chunk."""
        content = message.content
        if isinstance(content, str):
            if message.additional_kwargs:
                reasoning = message.additional_kwargs.get("reasoning_content")
                if reasoning and isinstance(reasoning, str):
                    yield Reasoning(reasoning)
            if content:
                yield content
        else:
            for block in message.content_blocks:
                yield from self._read_block(block)

    def end(self) -> Iterator[ToolCall]:
        """Yield the provider's calls without a result. Call it once the message is complete."""
        for key in list(self._begun):
            yield self._call(self._begun.pop(key))

    def _read_block(self, block: Any) -> Iterator[str | Part]:
        match block:
            case {"type": "text", "text": str(text)}:
                if text:
                    yield text
                for note in block.get("annotations") or ():
                    yield from self._read_annotation(note)
            case {"type": "reasoning", "reasoning": str(text)} if text:
                yield Reasoning(text)
            case {"type": "refusal", "refusal": str(text)} if text:
                yield text
            case {"type": "server_tool_call_chunk", "id": str(id)}:
                begun = _Begun(id, block.get("name") or "tool", block.get("args") or "")
                self._begun[block.get("index", id)] = begun
            case {"type": "server_tool_call_chunk", "index": index} if index in self._begun:
                self._begun[index].arguments += block.get("args") or ""
            case {"type": "server_tool_call", "id": str(id), "name": str(name)}:
                arguments = orjson.dumps(block.get("args") or {}).decode()
                yield self._call(_Begun(id, name, arguments))
            case {"type": "server_tool_result", "tool_call_id": str(id)}:
                for key in [key for key, begun in self._begun.items() if begun.id == id]:
                    yield self._call(self._begun.pop(key))
                failed = block.get("status") == "error"
                output = None if failed else block.get("output")
                yield ToolResult(id, output, FAILED if failed else None)

    def _read_annotation(self, note: Any) -> Iterator[Source]:
        match note:
            case {"type": "citation", "url": str(url)} if url not in self._sources:
                self._sources.add(url)
                if url.startswith(("http://", "https://")):
                    yield Source(str(note.get("title") or url), url)

    def _call(self, begun: _Begun) -> ToolCall:
        try:
            arguments = orjson.loads(begun.arguments or "{}")
        except orjson.JSONDecodeError:
            arguments = {"arguments": begun.arguments}
        return ToolCall(
            begun.name,
            arguments if isinstance(arguments, dict) else {"arguments": arguments},
            begun.id,
            repeat=may_repeat(self._repeat, begun.name),
            executed="provider",
        )


def finish_reason_of(message: BaseMessage) -> str | None:
    """Why the model stopped, in OpenAI's words; None if the message does not say."""
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    return REASONS.get(reason, reason.lower()) if isinstance(reason, str) else None
