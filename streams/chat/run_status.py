"""What a run is now: how far it is, what it says so far, what it cost and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from streams.chat.snapshot import log_state
from streams.models import Run
from streams.protocol.events import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunError:
    """Why a run failed: `code` is stable, `reason` is for a person."""

    code: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """When a run was asked for, taken up, first heard, and over."""

    queued_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run as its owner sees it. `usage` and `finish_reason` are known once it has ended."""

    id: UUID
    conversation: UUID
    message: UUID
    reply: UUID | None
    status: str
    attempt: int
    model: str
    text: str
    reasoning: str
    finish_reason: str | None
    error: RunError | None
    usage: Usage | None
    timings: Timings


def run_status(run: Run) -> RunStatus:
    """The run as it is. Its text so far is the log's to tell: empty while Redis is away."""
    # The log first: what it no longer knows of a run stands in the row that is read after it.
    look = log_state(run.conversation) if run.is_active else None
    said = look.runs.get(run.id) if look else None
    run = Run.objects.select_related("reply").get(pk=run.pk)
    heard = said if said and run.is_active and said.attempt == run.attempt else None
    text = run.reply.content if run.reply else ""
    return RunStatus(
        id=run.id,
        conversation=run.conversation_id,
        message=run.message_id,
        reply=run.reply_id,
        status=run.status,
        attempt=run.attempt,
        model=run.model,
        text=heard.text if heard else text,
        reasoning=heard.reasoning if heard else "",
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
