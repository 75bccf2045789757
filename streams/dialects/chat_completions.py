"""OpenAI's Chat Completions: a run as `chat.completion.chunk` frames, or as one object.

A reader of this wire cannot resume, and the wire cannot declare sent text void. So if another
attempt begins after some text was sent, the stream ends with an error, as after a failure.
"""

from collections.abc import Hashable, Iterable
from typing import Any

from streams.dialects.changes import Ended, Grown, TakenBack, changes
from streams.dialects.wire import LastFrames
from streams.models import Run
from streams.protocol.events import RunCompleted, RunFailed, Usage
from streams.protocol.fold import Reply
from streams.protocol.parts import ReasoningPart, TextPart
from streams.protocol.sse import DONE, data_block

FINISH_REASONS = ("stop", "length", "content_filter")
VOID = "The reply was interrupted and is written anew. Ask again."


class ChatCompletionWire:
    """One stream of chunks. With `usage`, the last chunk has the token counts."""

    dialect = "chat-completions"

    def __init__(self, run: Run, *, usage: bool) -> None:
        self._head = head_of(run) | {"object": "chat.completion.chunk"}
        self._usage = usage

    @property
    def variant(self) -> Hashable:
        return self._usage

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames from `before` to `now`. Raises `LastFrames` if sent text becomes void."""
        if before is None:
            yield self._chunk({"role": "assistant", "content": ""})
            before = Reply(run=now.run)
        for change in changes(before, now):
            match change:
                case TakenBack(parts=parts):
                    if any(isinstance(part, TextPart | ReasoningPart) for part in parts):
                        raise LastFrames(error_frame(VOID, "interrupted"))
                case Grown(part=TextPart()):
                    yield self._chunk({"content": change.text})
                case Grown():
                    yield self._chunk({"reasoning_content": change.text})
                case Ended(ending=RunFailed() as failed):
                    yield error_frame(failed.reason, failed.code)
                case Ended(ending=ending):
                    yield self._chunk({}, finish_reason=finish_reason(now))
                    if self._usage:
                        yield data_block(
                            self._head | {"choices": [], "usage": usage_of(ending.usage)}
                        )
                    yield DONE

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self._usage else {}
        return data_block(self._head | {"choices": [choice]} | usage)


def completion(run: Run, reply: Reply) -> dict[str, Any]:
    """The whole reply of a run that has ended, and did not fail."""
    assert reply.ending
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": finish_reason(reply),
        "logprobs": None,
    }
    return head_of(run) | {
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage_of(reply.ending.usage),
    }


def head_of(run: Run) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{run.id}",
        "created": int(run.created_at.timestamp()),
        "model": run.model,
    }


def finish_reason(reply: Reply) -> str:
    """OpenAI's word for how the run ended; "stop" for a cancelled run."""
    reason = reply.ending.finish_reason if isinstance(reply.ending, RunCompleted) else "stop"
    return reason if reason in FINISH_REASONS else "stop"


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "estimated": usage.estimated,
    }


def failure(reason: str, code: str) -> dict[str, str | None]:
    return {"message": reason, "type": "server_error", "code": code, "param": None}


def error_frame(reason: str, code: str) -> bytes:
    return data_block({"error": failure(reason, code)})
