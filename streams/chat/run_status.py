"""The status of a run: its progress, its parts so far, its token usage and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from streams.chat.message_view import parts_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import log_of
from streams.log.values import RunProgress
from streams.models import Run
from streams.protocol.events import Usage
from streams.protocol.parts import Part, reasoning_of, text_of

Status = Literal["queued", "running", "completed", "cancelled", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunError:
    """Why a run failed: a stable `code`, and a `reason` in plain text for people."""

    code: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """When a run was queued, was started, got its first token, and ended."""

    queued_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run as its owner sees it. `usage` and `finish_reason` are None until it has ended."""

    id: UUID
    conversation: UUID
    message: UUID
    reply: UUID | None
    status: Status
    attempt: int
    model: str
    text: str
    reasoning: str
    parts: tuple[Part, ...]
    finish_reason: str | None
    error: RunError | None
    usage: Usage | None
    timings: Timings


def run_status(run: Run) -> RunStatus:
    """Return the run's status. The text of an active run is empty while Redis is away."""
    # The log is read first. If the run ends meanwhile, the row, which is read next, has the reply.
    progress = _progress(run) if run.is_active else None
    run = Run.objects.select_related("reply").get(pk=run.pk)
    parts = parts_of(run.reply)
    if progress and run.is_active and progress.attempt == run.attempt:
        parts = progress.parts
    return RunStatus(
        id=run.id,
        conversation=run.conversation_id,
        message=run.message_id,
        reply=run.reply_id,
        status=run.status,  # type: ignore[arg-type]  # the choices are those of `Status`
        attempt=run.attempt,
        model=run.model,
        text=text_of(parts),
        reasoning=reasoning_of(parts),
        parts=parts,
        finish_reason=run.finish_reason or None,
        error=RunError(code=run.code, reason=run.reason) if run.code else None,
        usage=None if run.is_active else run.usage,
        timings=Timings(
            queued_at=run.created_at,
            started_at=run.started_at,
            first_token_at=run.first_token_at,
            ended_at=run.ended_at,
        ),
    )


def _progress(run: Run) -> RunProgress | None:
    """Return the run's progress in the log; None if it has none, or while Redis is away."""
    try:
        state = log_of(run.conversation_id, run.conversation.head).state()
    except LogUnavailable:
        return None
    return state.runs.get(run.id) if state else None
