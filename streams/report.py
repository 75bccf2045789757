"""What a run is now: how far it is, what it says so far, what it cost and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from streams.events import Usage
from streams.models import Run
from streams.snapshot import look_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
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
class Report:
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
    error: Fault | None
    usage: Usage | None
    timings: Timings


def report(run: Run) -> Report:
    """The run as it is. Its text so far is the log's to tell: empty while Redis is away."""
    # The log first: what it no longer knows of a run stands in the row that is read after it.
    look = look_at(run.conversation) if run.live else None
    said = look.runs.get(run.id) if look else None
    run = Run.objects.select_related("reply").get(pk=run.pk)
    heard = said if said and run.live and said.attempt == run.attempt else None
    text = run.reply.content if run.reply else ""
    return Report(
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
        error=Fault(code=run.code, reason=run.reason) if run.code else None,
        usage=None if run.live else run.usage,
        timings=Timings(
            queued_at=run.created_at,
            started_at=run.started_at,
            first_token_at=run.first_token_at,
            ended_at=run.ended_at,
        ),
    )
