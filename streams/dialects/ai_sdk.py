"""The AI SDK's UI message stream, versions 5 to 7: `useChat`, assistant-ui, AI Elements.

POST /api/chat               asks, or regenerates the last reply; the response streams it
GET  /api/chat/<id>/stream   the newest turn's reply from its beginning; 204 if there is none
POST /api/chat/<id>/stop     cancels its runs; the client's own `stop()` only closes a connection
GET  /api/chat/<id>/messages the conversation as UI messages
"""

from collections.abc import Iterable, Iterator
from typing import Any

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
from streams.protocol.sse import DONE, data_block

FINISH_REASONS = ("stop", "length", "content-filter", "tool-calls", "error")


class UiMessageWire:
    """One stream of UI message chunks.

    `resets`: the client knows `reset-step`, as since version 7. `continues`: the client appends the
    stream to the message that it may have, so this message is reset first. Other clients begin the
    message anew.
    """

    dialect = "ai-sdk"
    variant = None

    def __init__(self, *, resets: bool, continues: bool = False) -> None:
        self._resets = resets
        self._continues = continues

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames from `before` to `now`.

        Raises `StreamBroken` if sent parts become void and the client knows no `reset-step`.
        """
        if before is None:
            yield data_block({"type": "start", "messageId": str(now.run)})
            yield data_block({"type": "reset-step" if self._continues else "start-step"})
            before = Reply(run=now.run, message=now.message)
        for change in changes(before, now):
            if isinstance(change, TakenBack) and change.parts and not self._resets:
                raise StreamBroken
            yield from map(data_block, _chunks(change))
        if now.ending and not before.ending:
            yield DONE


def _chunks(change: Change) -> Iterator[dict[str, Any]]:
    match change:
        case Opened(place=place, part=part) | Replaced(place=place, part=part):
            yield from _part(place, part)
        case Grown(place=place, part=part):
            yield {"type": f"{part.type}-delta", "id": str(place), "delta": change.text}
        case Closed(place=place, part=part):
            yield {"type": f"{part.type}-end", "id": str(place)}
        case TakenBack(parts=parts):
            if parts:
                yield {"type": "reset-step"}
        case Ended(ending=ending):
            yield from _ending(ending)


def _part(place: int, part: AnyPart) -> Iterator[dict[str, Any]]:
    match part:
        case TextPart() | ReasoningPart():
            yield {"type": f"{part.type}-start", "id": str(place)}
        case ToolCallPart(call=call, name=name, input=input):
            tool = {"toolCallId": call, "dynamic": True, "providerExecuted": True}
            yield {"type": "tool-input-available", "toolName": name, "input": input, **tool}
        case ToolResultPart(call=call, output=output, error=error):
            tool = {"toolCallId": call, "dynamic": True, "providerExecuted": True}
            if error is None:
                yield {"type": "tool-output-available", "output": output, **tool}
            else:
                yield {"type": "tool-output-error", "errorText": error, **tool}
        case SourcePart(source=source, title=title, url=str() as url):
            yield {"type": "source-url", "sourceId": source, "url": url, "title": title}
        case SourcePart(source=source, title=title):
            document = {"type": "source-document", "sourceId": source, "title": title}
            yield {**document, "mediaType": "text/plain"}
        case DataPart(name=name, data=data, id=id):
            chunk = {"type": f"data-{name}", "data": data}
            yield chunk if id is None else {**chunk, "id": id}


def ui_parts(parts: Iterable[AnyPart]) -> list[dict[str, Any]]:
    """The parts of a stored message, in the form of a UI message."""
    shown: list[dict[str, Any]] = []
    tools: dict[str, dict[str, Any]] = {}
    for part in parts:
        match part:
            case TextPart(text=text) | ReasoningPart(text=text):
                shown.append({"type": part.type, "text": text, "state": "done"})
            case ToolCallPart(call=call, name=name, input=input):
                names = {"type": "dynamic-tool", "toolName": name, "toolCallId": call}
                state = {"state": "input-available", "input": input, "providerExecuted": True}
                tools[call] = {**names, **state}
                shown.append(tools[call])
            case ToolResultPart(call=call, output=output, error=error) if call in tools:
                tools[call] |= (
                    {"state": "output-available", "output": output}
                    if error is None
                    else {"state": "output-error", "errorText": error}
                )
            case SourcePart() | DataPart():
                shown += list(_part(0, part))
    return shown


def _ending(ending: Ending) -> Iterator[dict[str, Any]]:
    usage = {
        "inputTokens": ending.usage.input_tokens,
        "outputTokens": ending.usage.output_tokens,
        "totalTokens": ending.usage.total_tokens,
        "estimated": ending.usage.estimated,
    }
    match ending:
        case RunFailed(reason=reason):
            yield {"type": "error", "errorText": reason}
            yield {"type": "finish", "finishReason": "error", "messageMetadata": {"usage": usage}}
        case RunCancelled():
            yield {"type": "abort"}
            yield {"type": "finish", "messageMetadata": {"usage": usage}}
        case RunCompleted(finish_reason=reason):
            known = reason.replace("_", "-")
            finish = known if known in FINISH_REASONS else "other"
            yield {"type": "finish-step"}
            yield {"type": "finish", "finishReason": finish, "messageMetadata": {"usage": usage}}
