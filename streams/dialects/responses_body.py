"""OpenAI's `response` object, and the items of its output."""

from typing import Any

import orjson

from streams.dialects.position import END
from streams.models import Run
from streams.protocol.events import RunCancelled, RunCompleted, RunFailed
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

PREFIXES = {"reasoning": "rs", "tool_call": "mcp"}
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(run: Run) -> str:
    return f"resp_{run.id}"


def item_id(reply: Reply, place: int, part: AnyPart) -> str:
    return f"{PREFIXES.get(part.type, 'msg')}_{reply.run}_{max(1, reply.attempt)}_{place}"


def output_index(attempt: int, place: int) -> int:
    """The index of the item for this part. Each attempt has indexes of its own."""
    return int((max(1, attempt) - 1) * END + place)


def response_body(run: Run, reply: Reply) -> dict[str, Any]:
    """The response as it is now. Its output has the same items as the frames."""
    ending = reply.ending
    status, incomplete = _status(reply), None
    if isinstance(ending, RunCompleted) and ending.finish_reason in INCOMPLETE:
        incomplete = {"reason": INCOMPLETE[ending.finish_reason]}
    error = None
    if isinstance(ending, RunFailed):
        error = {"code": ending.code, "message": ending.reason}
    return {
        "id": response_id(run),
        "object": "response",
        "created_at": int(run.created_at.timestamp()),
        "status": status,
        "background": run.reader is None,
        "conversation": {"id": f"conv_{run.conversation_id}"},
        "error": error,
        "incomplete_details": incomplete,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": run.metadata or {},
        "model": run.model,
        "output": [*_output(reply)],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": _usage(reply),
    }


def item(reply: Reply, place: int, part: AnyPart, status: str | None = None) -> dict[str, Any]:
    """The item of a text, a reasoning or a call. Its content is empty if `status` is given."""
    if isinstance(part, ToolCallPart):
        return call_item(reply, place, part, None) | {"status": status or "incomplete"}
    assert isinstance(part, TextPart | ReasoningPart)
    kind: dict[str, Any] = {"type": "message", "role": "assistant"}
    if isinstance(part, ReasoningPart):
        kind = {"type": "reasoning", "summary": []}
    cut = place == len(reply.parts) - 1 and isinstance(reply.ending, RunCancelled | RunFailed)
    return {
        **kind,
        "id": item_id(reply, place, part),
        "status": status or ("incomplete" if cut else "completed"),
        "content": [] if status else [content_of(part)],
    }


def content_of(part: TextPart | ReasoningPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}
    return {"type": "reasoning_text", "text": part.text}


def call_item(
    reply: Reply, place: int, part: ToolCallPart, result: ToolResultPart | None
) -> dict[str, Any]:
    """The item of a tool call that this service has made."""
    output = error = None
    status = "in_progress"
    if result:
        status = "completed" if result.error is None else "failed"
        error = result.error
        if error is None:
            text = isinstance(result.output, str)
            output = result.output if text else orjson.dumps(result.output).decode()
    return {
        "type": "mcp_call",
        "id": item_id(reply, place, part),
        "server_label": "unspool",
        "name": part.name,
        "arguments": orjson.dumps(part.input).decode(),
        "output": output,
        "error": error,
        "status": status,
    }


def _output(reply: Reply) -> Any:
    results = {part.call: part for part in reply.parts if isinstance(part, ToolResultPart)}
    for place, part in enumerate(reply.parts):
        match part:
            case ToolCallPart(call=call):
                yield call_item(reply, place, part, results.get(call))
            case TextPart() | ReasoningPart():
                yield item(reply, place, part)


def _status(reply: Reply) -> str:
    match reply.ending:
        case None:
            return "in_progress" if reply.attempt else "queued"
        case RunCompleted(finish_reason=reason):
            return "incomplete" if reason in INCOMPLETE else "completed"
        case RunCancelled():
            return "cancelled"
        case RunFailed():
            return "failed"


def _usage(reply: Reply) -> dict[str, Any] | None:
    if reply.ending is None:
        return None
    usage = reply.ending.usage
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
        "estimated": usage.estimated,
    }
