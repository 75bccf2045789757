"""Finishing a run: by the worker that writes it, by a request to cancel it, or by the sweep.

    seal the reply in the log → read the published parts → store status and reply by one conditional
    update → publish the final event → record the final event's id in the run's row

If a process dies between two of these steps, another process continues from there. The final event
is published once, no event of the run follows it, and the published parts are the stored parts.
"""

import logging
from contextlib import suppress
from uuid import UUID

from django.db.models.functions import Now

from streams.chat.final_events import close_calls
from streams.chat.leases import held
from streams.chat.publisher import RUNS_PER_REQUEST, publish_final, publish_pending
from streams.chat.stored_ending import rest_of, store
from streams.chat.waiting_runs import dispatch_next, dispatch_refused
from streams.log.errors import LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import log_of
from streams.log.values import OnUnverified, SealedReply
from streams.models import UNPUBLISHED, Conversation, Run
from streams.observability import metrics
from streams.protocol.events import Usage
from streams.protocol.parts import Part

logger = logging.getLogger(__name__)


def complete(run: Run, parts: tuple[Part, ...], *, finish_reason: str, usage: Usage | None) -> None:
    """Finish a run whose model is done. Raises `Superseded` if this attempt has lost the run."""
    _finish(run, parts, usage, status=Run.Status.COMPLETED, finish_reason=finish_reason[:40])


def fail(run: Run, parts: tuple[Part, ...], *, code: str, reason: str) -> None:
    """Finish a run that cannot continue. Raises `Superseded` if this attempt has lost the run."""
    _finish(run, parts, None, status=Run.Status.FAILED, code=code, reason=reason)


def fail_after_call(run: Run, parts: tuple[Part, ...]) -> None:
    """Finish an interrupted run that has called a tool which must not be called twice.

    Raises `Superseded` if this attempt has lost the run.
    """
    reason = (
        "The reply was interrupted after it had called a tool. It is not written again by itself, "
        "because the tool would be called twice."
    )
    fail(run, parts, code="tools_called", reason=reason)


def finish_cancelled(run: Run, parts: tuple[Part, ...]) -> None:
    """Finish a run that is cancelled. Raises `Superseded` if this attempt has lost the run."""
    _finish(run, parts, None, status=Run.Status.CANCELLED)


def cancel(run: UUID) -> None:
    """Cancel the run and publish its final event at once. A run that has ended does not change.

    The row records the request first. If Redis is away or this process dies, the run's worker or
    the sweep cancels the run.
    """
    Run.objects.filter(pk=run, status__in=Run.ACTIVE).update(cancel_asked=True)
    with suppress(LogUnavailable):
        cancel_unheld(run)


def cancel_unheld(run: UUID) -> None:
    """Finish a run whose cancel was requested, even while a worker writes it.

    If only the worker knows the parts, the run is left to the worker. Raises `LogUnavailable`, and
    `LogUnverified` if the worker must verify the log first.
    """
    tried_attempt = None
    while (now := Run.objects.select_related("conversation", "message").get(pk=run)).is_active:
        if now.attempt == tried_attempt:
            logger.warning("run %s not cancelled: its log has a later attempt", run)
            return
        tried_attempt = now.attempt
        try:
            # A run without an attempt has nothing in the log.
            sealed = _seal(now) if now.attempt else None
            if not (sealed and sealed.known) and _is_held(now):
                return  # only the worker knows the parts; it reads the row often, then cancels
            finish_cancelled(now, sealed.parts if sealed else ())
        except Superseded:
            continue  # a worker has claimed the run since this process read the row


def _seal(run: Run) -> SealedReply:
    """Seal the run's reply in the log. Returns the published reply.

    Raises `LogUnverified` if a worker holds the run and must verify the log first.
    """
    log = log_of(run.conversation_id, run.conversation.head)
    try:
        return log.seal(run.id, run.attempt, on_unverified=OnUnverified.RAISE)
    except LogUnverified:
        if _is_held(run):
            raise  # its worker reads the row often, and cancels the run
        return log.seal(run.id, run.attempt, on_unverified=OnUnverified.NEW_EPOCH)


def _is_held(run: Run) -> bool:
    """Return whether a worker holds the run under a valid lease."""
    return Run.objects.filter(held(), pk=run.pk).exists()


def _finish(
    run: Run, parts: tuple[Part, ...], usage: Usage | None, *, status: str, **outcome: str
) -> None:
    sealed = None
    if run.attempt:
        sealed = log_of(run.conversation_id, run.conversation.head).seal(run.id, run.attempt)
    if sealed and sealed.known:
        # The final event must come after this head, even if Redis loses events meanwhile.
        run.conversation.head = max(run.conversation.head, sealed.head)
        if status == Run.Status.CANCELLED:
            parts = sealed.parts  # the worker may hold more, which is not published
    parts = close_calls(parts, status=status, code=outcome.get("code", ""))
    store(run, parts, usage, status=status, **outcome)
    rest = rest_of(run)
    try:
        if rest.is_alone:
            publish_final(run, run.conversation, sealed=sealed)
        else:
            publish_pending(run.conversation, most=RUNS_PER_REQUEST)
    except LogUnavailable:
        # The sweep publishes it.
        logger.warning("run %s ended, final event not yet published", run.id)
    else:
        if not rest.is_alone:
            dispatch_next(run.conversation_id)
    if rest.refused:
        dispatch_refused(run)


def cancel_unbegun(conversation: Conversation) -> None:
    """Cancel the conversation's runs that no worker has claimed, in one update.

    They have no text and no usage; their final events are published later. If a worker claims one
    of them first, the update's condition leaves it out, and `cancel_unheld` ends it.
    """
    unbegun = conversation.runs.filter(UNPUBLISHED, status=Run.Status.QUEUED, attempt=0)
    ended = unbegun.update(status=Run.Status.CANCELLED, cancel_asked=True, ended_at=Now())
    metrics.RUNS_ENDED.labels(Run.Status.CANCELLED, "").inc(ended)
