"""The reply of one run as it is now, and the cursor from which its events continue."""

from dataclasses import dataclass
from uuid import UUID

from streams.chat.final_events import final_event_of
from streams.chat.message_view import parts_of
from streams.chat.snapshot import log_state
from streams.models import Run
from streams.protocol.fold import Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyState:
    """The reply at `cursor`. `cursor` is None while Redis is away."""

    run: Run
    reply: Reply
    cursor: int | None


def reply_state(run: UUID) -> ReplyState:
    """Return the run's reply. Raises `Run.DoesNotExist`.

    The log is read before the row. So if the run ends meanwhile, the row has the reply; otherwise
    later events bring the missing parts.
    """
    before = Run.objects.select_related("conversation").get(pk=run)
    state = log_state(before.conversation) if before.is_active else None
    now = Run.objects.select_related("conversation", "reply", "message").get(pk=run)
    if not now.is_active:
        return ReplyState(run=now, reply=_ended(now), cursor=None)
    progress = state.runs.get(run) if state else None
    reply = Reply(run=run, message=now.message_id)
    if progress:
        attempt, parts = progress.attempt, progress.parts
        reply = Reply(run=run, message=now.message_id, attempt=attempt, parts=parts)
    return ReplyState(run=now, reply=reply, cursor=state.head if state else None)


def _ended(run: Run) -> Reply:
    return Reply(
        run=run.id,
        message=run.message_id,
        attempt=run.attempt,
        parts=parts_of(run.reply),
        ending=final_event_of(run),
    )
