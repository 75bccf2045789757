"""Ending a run, by whomever: the worker that wrote it, the reader who said stop, the sweep.

    close the fence → read the text that was said → commit status and reply in one conditional
    update → say the ending → note in the row that it was said

A process may die between any two of these steps, and another goes on from there: the ending is
said once, nothing follows it, and the text said is the text stored.
"""

import logging
from contextlib import suppress
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Now

from streams.chat.leases import held
from streams.chat.publisher import SAID_AT_ONCE, publish_pending
from streams.chat.waiting_runs import dispatch_next, dispatch_refused
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import the_log
from streams.log.values import RunProgress
from streams.models import UNPUBLISHED, Conversation, Message, Run
from streams.observability import metrics
from streams.protocol.events import Usage

logger = logging.getLogger(__name__)
CHARS_PER_TOKEN = 4  # characters, about: what is counted here is always marked as estimated


def complete(run: Run, text: str, *, finish_reason: str, usage: Usage | None) -> None:
    """The model has finished. Raises `Superseded` where the run is not this attempt's."""
    _finish(run, text, usage, status=Run.Status.COMPLETED, finish_reason=finish_reason[:40])


def fail(run: Run, text: str, *, code: str, reason: str) -> None:
    """It cannot be written to its end. Raises `Superseded` where it is not this attempt's."""
    _finish(run, text, None, status=Run.Status.FAILED, code=code, reason=reason)


def finish_cancelled(run: Run, text: str) -> None:
    """Whoever writes it was told to stop. Raises `Superseded` where it is not this attempt's."""
    _finish(run, text, None, status=Run.Status.CANCELLED)


def cancel(run: UUID) -> None:
    """Stop the run, wherever it is; one that has ended stays as it is. Readers hear it at once.

    That somebody asked stands in the row first. So where Redis is away, or this process dies,
    the worker that writes it ends it, or the sweep.
    """
    Run.objects.filter(pk=run, status__in=Run.ACTIVE).update(cancel_asked=True)
    with suppress(LogUnavailable):
        cancel_unheld(run)


def cancel_unheld(run: UUID) -> None:
    """End a run that was told to stop, wherever it is. Raises `LogUnavailable`."""
    tried = None
    while (now := Run.objects.select_related("conversation", "message").get(pk=run)).is_active:
        if now.attempt == tried:
            logger.warning("run %s cannot be ended: its log knows of a later attempt", run)
            return
        tried = now.attempt
        try:
            said = _seal(now) if now.attempt else None  # whom no worker had, nobody spoke for
            if said is None and _is_held(now):
                return  # only the worker knows what it holds, and looks at its row every second
            finish_cancelled(now, said.text if said else "")
        except Superseded:
            continue  # a worker has claimed it since we read it


def _seal(run: Run) -> RunProgress | None:
    """Close the run's fence. Raises `LogUnverified` where only an attempt can say what was said."""
    channel, known = channel_of(run.conversation_id), run.conversation.head
    try:
        return the_log().seal(channel, run.id, run.attempt, min_head=known, doubt="leave")
    except LogUnverified:
        if _is_held(run):
            raise  # it looks at its row every second, and sees that it was told to stop
        return the_log().seal(channel, run.id, run.attempt, min_head=known, doubt="settle")


def _is_held(run: Run) -> bool:
    """Whether a worker has the run and was heard of within its lease."""
    return Run.objects.filter(held(), pk=run.pk).exists()


def _finish(run: Run, text: str, usage: Usage | None, **outcome: str) -> None:
    channel = channel_of(run.conversation_id)
    closed = None
    if run.attempt:
        closed = the_log().seal(channel, run.id, run.attempt, min_head=run.conversation.head)
    if closed:  # whoever says the ending knows what it comes after, whatever Redis loses meanwhile
        run.conversation.head = max(run.conversation.head, closed.head)
        if outcome["status"] == Run.Status.CANCELLED:
            text = closed.text  # a worker may hold more, which came too late to be said
    store(run, text, usage, **outcome)
    try:
        publish_pending(run.conversation, most=SAID_AT_ONCE)
    except LogUnavailable:
        logger.warning("run %s ended, to be said later", run.id)  # by the sweep
    else:
        dispatch_next(run.conversation_id)
    dispatch_refused(run.owner)


def store(run: Run, text: str, usage: Usage | None, **outcome: str) -> None:
    """Store how the run ended, and its reply, if it is still this attempt's."""
    spent = usage or _estimate(run, text)
    mine = Run.objects.filter(pk=run.pk, attempt=run.attempt, status__in=Run.ACTIVE)
    with transaction.atomic():
        known = Greatest(F("head"), run.conversation.head)
        Conversation.objects.filter(pk=run.conversation_id).update(head=known)
        ended = mine.update(
            **outcome,
            ended_at=Now(),
            worker=None,
            lease_until=None,
            lease_length=None,
            first_token_at=run.first_token_at or F("first_token_at"),
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            total_tokens=spent.total_tokens,
            estimated=spent.estimated,
        )
        if not ended:
            raise Superseded  # another worker has it, or somebody else has ended it
        if text or outcome["status"] == Run.Status.COMPLETED:
            reply = Message.objects.create(
                conversation_id=run.conversation_id,
                role=Message.Role.ASSISTANT,
                content=text,
                turn=run.message.turn,
                reply_to_id=run.message_id,
            )
            Run.objects.filter(pk=run.pk).update(reply=reply)
    metrics.RUNS_ENDED.labels(outcome["status"], outcome.get("code", "")).inc()


def cancel_unbegun(conversation: Conversation) -> None:
    """Cancel the conversation's runs that no worker ever had, in one update; said later.

    They have no text and no usage. A worker that claims one of them at this moment gets it or not
    by the same condition; what it got is ended by `end_cancelled`.
    """
    unbegun = conversation.runs.filter(UNPUBLISHED, status=Run.Status.QUEUED, attempt=0)
    ended = unbegun.update(status=Run.Status.CANCELLED, cancel_asked=True, ended_at=Now())
    metrics.RUNS_ENDED.labels(Run.Status.CANCELLED, "").inc(ended)


def _estimate(run: Run, text: str) -> Usage:
    output = -(-len(text) // CHARS_PER_TOKEN)  # rounded up
    return Usage(
        input_tokens=run.input_tokens,
        output_tokens=output,
        total_tokens=run.input_tokens + output,
        estimated=True,
    )
