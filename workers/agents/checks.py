"""Checks the items that an agent yields, and converts them to the parts of the protocol.

`Checks.check` checks every item against the rules and the limits. The pieces and parts that it
returns can be stored and sent unchanged: call ids are unique, each result has its call, text is
Unicode, JSON is plain.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from django.conf import settings

from streams.protocol import events
from streams.protocol.parts import (
    DataPart,
    ReasoningPart,
    SourcePart,
    ToolCallPart,
    ToolResultPart,
)
from streams.protocol.sse import clean
from workers.agents.call_ids import LONGEST_ID, CallIds, UnknownCall
from workers.agents.errors import AgentError
from workers.agents.json_values import cut, plain
from workers.agents.parts import Data, Finish, Reasoning, Source, ToolCall, ToolResult, Usage
from workers.reply_items import Completion, ReplyItem
from workers.reply_text import split_text

SHORT = 1024  # characters; a shorter text needs no splitting
LONGEST_REASON = 40  # characters that the database's column holds
ENGINE_ERRORS = ("cancelled", "worker_lost", "failed")  # `error` of a call that the engine closes
SAID_PER_KEPT = 8  # an attempt may yield this many times MAX_REPLY_BYTES, as data is replaced
MOST_TOKENS = 1_000_000_000  # of one count; the database's column holds twice as many

logger = logging.getLogger(__name__)


class Checks:
    """The checks of one attempt, with the ids, sizes and counts of the items so far."""

    def __init__(self, run: UUID, attempt: int) -> None:
        self._name = f"run {run} attempt {attempt}"
        self.calls = CallIds()
        self._data: dict[tuple[str, str], int] = {}  # bytes of each data part that can be replaced
        self._last: type | None = None  # the type of the last part
        self._parts = self._kept = self._said = 0
        self._usage: Usage | None = None
        self.completion: Completion | None = None  # set by `Finish`; later items are ignored

    def check(self, item: object) -> Iterable[ReplyItem]:
        """Return the item as pieces and parts. Raises `AgentError` if it breaks a rule."""
        if self._last is str and type(item) is str and 0 < len(item) < SHORT:
            text = clean(item)
            size = _size(text)
            if self._kept + size <= settings.MAX_REPLY_BYTES:
                self._count_bytes(size)
                return (text,)  # the usual case, without nested generators
        return self._check(item)

    def _check(self, item: object) -> Iterator[ReplyItem]:
        match item:
            case str():
                yield from self._pieces(str(item), str)
            case Reasoning(text=str(text)):
                yield from (ReasoningPart(text=piece) for piece in self._pieces(text, Reasoning))
            case ToolCall():
                yield self._call(item)
            case ToolResult():
                if part := self._result(item):
                    yield part
            case Source():
                yield self._source(item)
            case Data():
                yield self._data_part(item)
            case Usage():
                self._add_usage(item)
            case Finish():
                self.finish(item.reason)
            case _:
                raise self._wrong(f"the agent yielded {_type(item)}, which is no part")

    def finish(self, reason: str = "stop") -> Completion:
        """Record that the reply is complete, and return its completion."""
        usage = None
        if counted := self._usage:
            usage = events.Usage(
                input_tokens=counted.input_tokens,
                output_tokens=counted.output_tokens,
                total_tokens=counted.input_tokens + counted.output_tokens,
                estimated=False,
            )
        self.completion = Completion(clean(str(reason))[:LONGEST_REASON] or "stop", usage)
        return self.completion

    def _pieces(self, text: str, kind: type) -> Iterator[str]:
        """Yield pieces that each fit into one event.

        If not all of the text fits into the reply, yields what fits, then raises `AgentError`.
        """
        text = clean(text)
        if not text:
            return
        if self._last is not kind:
            self._count_part(kind)
        size = _size(text)
        room = settings.MAX_REPLY_BYTES - self._kept
        if size <= room:
            yield from split_text(text)
        else:
            yield from split_text(text.encode()[: max(room, 0)].decode(errors="ignore"))
        self._count_bytes(size)

    def _call(self, call: ToolCall) -> ToolCallPart:
        if self.calls.made >= settings.MAX_TOOL_CALLS:
            raise AgentError("too_many_tool_calls")
        if not isinstance(call.input, Mapping):
            raise self._wrong(f"the input of a call is {_type(call.input)}, not a JSON object")
        self._count_part(ToolCall)
        return ToolCallPart(
            call=self.calls.begin(self._string(call.call, "the id of a call")),
            name=self._string(call.name, "the name of a tool")[:LONGEST_ID],
            input=self._json(dict(call.input), "the input of a call"),
            executed="provider" if call.executed else None,
        )

    def _result(self, result: ToolResult) -> ToolResultPart | None:
        """Return the result as a part, or None if its call already has a result."""
        try:
            call = self.calls.end(self._string(result.call, "the call of a result"))
        except UnknownCall:
            raise self._wrong("the agent yielded the result of an unknown call") from None
        if call is None:
            return None
        self._count_part(ToolResult)
        if result.error is not None:
            return self._failed(call, result.error)
        output, size = self._plain(result.output, "the output of a call")
        if truncated := size > settings.MAX_PART_BYTES:
            size = settings.MAX_PART_BYTES
            text = output if isinstance(output, str) else orjson.dumps(output).decode()
            output = cut(text, size)
        self._count_bytes(size)
        return ToolResultPart(call=call, output=output, truncated=truncated)

    def _failed(self, call: str, error: object) -> ToolResultPart:
        if error in ENGINE_ERRORS:
            raise self._wrong("the agent yielded an error that the engine alone may yield")
        whole = self._string(error, "the error of a result")
        kept = cut(whole, settings.MAX_PART_BYTES)
        self._count_bytes(len(kept.encode()))
        return ToolResultPart(call=call, error=kept, truncated=kept != whole)

    def _source(self, source: Source) -> SourcePart:
        url = source.url
        if url is not None and (
            not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https")
        ):
            raise self._wrong("the url of a source is not http or https")
        title = clean(str(source.title))
        part = SourcePart(
            source=clean(str(source.source or url or title)), title=title, url=url and clean(url)
        )
        self._json([part.source, part.title, part.url], "a source")
        self._count_part(Source)
        return part

    def _data_part(self, data: Data) -> DataPart:
        name = self._string(data.name, "the name of data")[:LONGEST_ID]
        id = None if data.id is None else self._string(data.id, "the id of data")[:LONGEST_ID]
        replaced = self._data.get((name, id or ""), 0) if id else 0
        self._kept -= replaced
        before = self._kept
        made = self._json(data.data, "data")
        if id:
            self._data[name, id] = self._kept - before
        if not replaced:
            self._count_part(Data)
        return DataPart(name=name, data=made, id=id)

    def _add_usage(self, usage: Usage) -> None:
        counts = (usage.input_tokens, usage.output_tokens)
        if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts):
            raise self._wrong("a usage has counts that are no numbers of tokens")
        before = self._usage or Usage(0, 0)
        self._usage = Usage(
            min(before.input_tokens + usage.input_tokens, MOST_TOKENS),
            min(before.output_tokens + usage.output_tokens, MOST_TOKENS),
        )

    def _count_part(self, kind: type) -> None:
        self._parts += 1
        self._last = kind
        if self._parts > settings.MAX_PARTS:
            raise AgentError("too_many_parts")

    def _count_bytes(self, size: int) -> None:
        self._kept += size
        self._said += size
        most = settings.MAX_REPLY_BYTES
        if self._kept > most or self._said > SAID_PER_KEPT * most:
            raise AgentError("reply_too_long")

    def _json(self, value: object, what: str) -> Any:
        """The value as plain JSON. Raises `AgentError` if it is too large for a part."""
        made, size = self._plain(value, what)
        if size > settings.MAX_PART_BYTES:
            raise AgentError("part_too_large")
        self._count_bytes(size)
        return made

    def _plain(self, value: object, what: str) -> tuple[Any, int]:
        try:
            return plain(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._wrong(f"{what} holds {error}, which is no JSON") from None

    def _string(self, text: object, what: str) -> str:
        if not isinstance(text, str) or not text:
            raise self._wrong(f"{what} is {_type(text)}, not a text")
        return clean(text)

    def _wrong(self, what: str) -> AgentError:
        """Return the error for an agent that broke a rule. Only the process log names the rule."""
        logger.error("%s: %s", self._name, what)
        return AgentError("agent_error")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
