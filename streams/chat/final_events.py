"""The end of a run: its open calls, and the events that bring readers to the stored reply."""

from typing import Any

from streams.chat.message_view import parts_of
from streams.log.values import SealedReply
from streams.models import Run
from streams.protocol.events import (
    Ending,
    PartAdded,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextSnapshot,
)
from streams.protocol.parts import Part, ToolCallPart, ToolResultPart, WholePart, add_part, text_of

# The codes of runs that failed because their worker was lost.
WORKER_LOST = frozenset({"worker_lost", "tools_called"})


def close_calls(parts: tuple[Part, ...], *, status: str, code: str = "") -> tuple[Part, ...]:
    """The parts of an ending run. Each call without a result gets an error, in call order."""
    if status == Run.Status.CANCELLED:
        error = "cancelled"
    else:
        error = "worker_lost" if code in WORKER_LOST else "failed"
    closed = {part.call for part in parts if isinstance(part, ToolResultPart)}
    for part in parts:
        if isinstance(part, ToolCallPart) and part.call not in closed:
            closed.add(part.call)
            parts = add_part(parts, ToolResultPart(call=part.call, error=error))
    return parts


def missing_events(run: Run, sealed: SealedReply) -> list[RunStarted | PartAdded | TextSnapshot]:
    """The events that a reader of the log needs to have the stored reply of this ended run.

    If only whole parts are missing at the end, these are their events; otherwise it is one
    text.snapshot. If the attempt's run.started was never appended, it comes first.
    """
    stored = parts_of(run.reply)
    own = sealed.attempt == run.attempt
    if sealed.parts == stored and (not stored or (own and sealed.published)):
        return []
    index = sealed.index + 1 if own else 0
    events: list[RunStarted | PartAdded | TextSnapshot] = []
    if sealed.attempt is not None and not own:
        events.append(RunStarted(run=run.id, attempt=run.attempt, model=run.model))
    whole = _whole_parts_after(sealed.parts, stored) if own and sealed.published else []
    for n, part in enumerate(whole):
        events.append(PartAdded(run=run.id, attempt=run.attempt, index=index + n, part=part))
    if not whole:
        text = text_of(stored)
        events.append(
            TextSnapshot(run=run.id, attempt=run.attempt, index=index, text=text, parts=stored)
        )
    return events


def _whole_parts_after(parts: tuple[Part, ...], stored: tuple[Part, ...]) -> list[WholePart]:
    """The whole parts after `parts` in `stored`; empty if `stored` differs in another way."""
    if stored[: len(parts)] != parts:
        return []
    rest = stored[len(parts) :]
    whole = [part for part in rest if isinstance(part, WholePart)]
    return whole if len(whole) == len(rest) else []


def final_event_of(run: Run) -> Ending:
    """The final event of a run that has ended."""
    common: dict[str, Any] = {
        "run": run.id,
        "attempt": run.attempt,
        "reply": run.reply_id,
        "usage": run.usage,
    }
    match run.status:
        case Run.Status.COMPLETED:
            return RunCompleted(**common, finish_reason=run.finish_reason)
        case Run.Status.CANCELLED:
            return RunCancelled(**common)
        case _:
            return RunFailed(**common, code=run.code, reason=run.reason)
