"""AG-UI, protocol 1.0: `HttpAgent` of `@ag-ui/client`, and clients that are built on it.

POST /ag-ui                 asks, or joins the run of this `runId`; the response streams it
POST /ag-ui/connect         the thread, and the stream of its newest run
POST /ag-ui/stop/<thread>   cancels its runs; the client's own `abortRun()` only closes a connection
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from streams.dialects.ag_ui_messages import (
    ACTIVITIES,
    Message,
    Thread,
    activity_fields,
    arguments,
    call_id,
    part_id,
    reply_messages,
    result_fields,
    snapshots,
)
from streams.dialects.changes import (
    Change,
    Closed,
    Ended,
    Grown,
    Opened,
    Replaced,
    TakenBack,
    changes,
)
from streams.http.disconnect import StreamBroken
from streams.protocol.events import Ending, RunCancelled, RunCompleted, RunFailed
from streams.protocol.fold import Reply
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from streams.protocol.sse import data_block

KEPT = 64 * 1024  # bytes of a thread that a stream keeps for a second attempt
# The client drops its activities of these types if a snapshot does not contain them.
OWNED = {"@ag-ui/client": {"authoritativeActivityTypes": ACTIVITIES}}
STREAMED = TextPart | ReasoningPart
Event = dict[str, Any]


class AgUiWire:
    """One stream of a run's events.

    `thread` has all messages except the reply. If the stream begins with the thread, `had` are the
    messages that the client may have; otherwise it is None. If sent text becomes void, and `thread`
    is None or large, the connection breaks, and the client must reconnect.
    """

    dialect = "ag-ui"
    variant = None

    def __init__(
        self,
        *,
        names: tuple[str, str],
        model: str,
        thread: Thread | None,
        had: Sequence[Message] | None,
    ) -> None:
        self._names = dict(zip(("threadId", "runId"), names, strict=True))
        self._model = model
        self._thread = thread
        self._had = had

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames from `before` to `now`.

        Raises `StreamBroken` if sent text becomes void and there is no thread.
        """
        return map(data_block, self._events(before, now))

    def _events(self, before: Reply | None, now: Reply) -> Iterator[Event]:
        if before is None:
            run = {"run": str(now.run)}
            yield {"type": "RUN_STARTED", **self._names, "metadata": run}
            before = Reply(run=now.run, message=now.message)
            if self._had is not None:
                yield from self._snapshots(now, self._had)
                before = replace(now, ending=None)
                yield from _open(before)
            self._forget()
        for change in changes(before, now):
            match change:
                case TakenBack(parts=parts):
                    if parts:
                        yield from self._take_back(replace(before, parts=parts), now)
                case Ended(ending=ending):
                    yield self._ending(ending)
                case _:
                    yield from _events(now.run, change)

    def _take_back(self, before: Reply, now: Reply) -> Iterator[Event]:
        if self._thread is None:
            raise StreamBroken
        had = self._thread.with_reply(reply_messages(before.run, before.parts))
        yield from self._snapshots(replace(now, parts=()), had)
        # The end comes after the snapshots, because the client reports a closed message as new.
        last = len(before.parts) - 1
        if isinstance(before.parts[last], STREAMED):
            yield from _close(part_id(before.run, last), before.parts[last])

    def _snapshots(self, now: Reply, had: Iterable[Message]) -> Iterator[Event]:
        assert self._thread is not None
        messages = self._thread.with_reply(reply_messages(now.run, now.parts))
        for one in snapshots(messages, had):
            yield {"type": "MESSAGES_SNAPSHOT", "messages": one, "metadata": OWNED}

    def _forget(self) -> None:
        """Drop the data that the rest of the stream does not need."""
        self._had = None
        if self._thread and len(self._thread.encoded) > KEPT:
            self._thread = None

    def _ending(self, ending: Ending) -> Event:
        counts = {
            "inputTokens": ending.usage.input_tokens,
            "outputTokens": ending.usage.output_tokens,
            "totalTokens": ending.usage.total_tokens,
        }
        usage = {"usage": [{"model": self._model, **counts}]}
        metadata: dict[str, Any] = {"usageEstimated": ending.usage.estimated}
        finished = {"type": "RUN_FINISHED", **self._names, **usage}
        match ending:
            case RunCompleted(finish_reason=reason):
                metadata["finishReason"] = reason
                return {**finished, "outcome": {"type": "success"}, "metadata": metadata}
            case RunCancelled():
                return {**finished, "outcome": {"type": "cancelled"}, "metadata": metadata}
            case RunFailed(code=code, reason=reason):
                error = {"type": "RUN_ERROR", "message": reason, "code": code}
                return {**error, **usage, "metadata": metadata}


def nothing(names: tuple[str, str]) -> bytes:
    """The stream for a thread name without a conversation. The client keeps its chat messages."""
    named = dict(zip(("threadId", "runId"), names, strict=True))
    finished = {"type": "RUN_FINISHED", **named, "outcome": {"type": "success"}}
    return data_block({"type": "RUN_STARTED", **named}) + data_block(finished)


def _events(run: UUID, change: Change) -> Iterator[Event]:
    match change:
        case Opened(place=place, part=part) | Replaced(place=place, part=part):
            yield from _part(run, part_id(run, place), part)
        case Grown(place=place, part=part):
            id = {"messageId": part_id(run, place)}
            kind = "TEXT" if isinstance(part, TextPart) else "REASONING"
            yield {"type": f"{kind}_MESSAGE_CONTENT", **id, "delta": change.text}
        case Closed(place=place, part=part):
            yield from _close(part_id(run, place), part)
        case TakenBack() | Ended():
            pass


def _open(reply: Reply) -> Iterator[Event]:
    """The start of the last part, if more text of it may come. The client has its text so far."""
    if reply.parts and isinstance(reply.parts[-1], STREAMED):
        yield from _part(reply.run, part_id(reply.run, len(reply.parts) - 1), reply.parts[-1])


def _part(run: UUID, message: str, part: AnyPart) -> Iterator[Event]:
    id = {"messageId": message}
    match part:
        case TextPart():
            yield {"type": "TEXT_MESSAGE_START", **id, "role": "assistant"}
        case ReasoningPart():
            yield {"type": "REASONING_START", **id}
            yield {"type": "REASONING_MESSAGE_START", **id, "role": "reasoning"}
        case ToolCallPart():
            call = {"toolCallId": call_id(run, part.call)}
            named = {"toolCallName": part.name, "parentMessageId": message}
            yield {"type": "TOOL_CALL_START", **call, **named}
            yield {"type": "TOOL_CALL_ARGS", **call, "delta": arguments(part)}
            yield {"type": "TOOL_CALL_END", **call}
        case ToolResultPart():
            yield {"type": "TOOL_CALL_RESULT", **id, "role": "tool", **result_fields(run, part)}
        case SourcePart() | DataPart():
            yield {"type": "ACTIVITY_SNAPSHOT", **id, **activity_fields(part)}


def _close(message: str, part: AnyPart) -> Iterator[Event]:
    id = {"messageId": message}
    if isinstance(part, TextPart):
        yield {"type": "TEXT_MESSAGE_END", **id}
    else:
        yield {"type": "REASONING_MESSAGE_END", **id}
        yield {"type": "REASONING_END", **id}
