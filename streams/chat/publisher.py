"""The one door out: whatever a channel says, it is said here.

Every step can be repeated by anybody who finds it undone. The log gives the same id to the same
word again, and only then does a row note that it was said.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from django.db import transaction

from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import the_log
from streams.log.values import Append, Watermark
from streams.models import UNPUBLISHED, Conversation, DeletedConversation, Message, Run
from streams.observability import metrics
from streams.protocol.events import (
    ConversationUpdated,
    Ending,
    MessageCreated,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunQueued,
    RunStarted,
)

logger = logging.getLogger(__name__)
SAID_AT_ONCE = 20  # runs of which a request says what is new; the worker or the sweep says the rest


def append(appends: Sequence[Append]) -> list[int | Exception]:
    """Say these pieces of replies in one trip. For each its id, or why it was refused."""
    answers = the_log().append(appends)
    metrics.DELTAS_APPENDED.inc(sum(isinstance(answer, int) for answer in answers))
    metrics.APPENDS_REJECTED.inc(sum(isinstance(answer, Superseded) for answer in answers))
    return answers


def verify(watermarks: Sequence[Watermark]) -> None:
    """Tell logs whose server may be another by now what they must hold.

    That is what these attempts have said, and of others' events those that the rows note.
    """
    found = Run.objects.filter(pk__in=[reach.run for reach in watermarks])
    noted = dict(found.values_list("id", "conversation__head"))
    the_log().verify([replace(r, head=max(r.head, noted.get(r.run, 0))) for r in watermarks])


def publish_start(run: Run) -> int:
    """Append run.started and raise the fence. Returns the event's id.

    Raises `Superseded`, `LogUnavailable`.
    """
    with suppress(LogUnverified):  # no longer, once this is said: the sweep says what is left
        publish_pending(run.conversation)
    event = RunStarted(run=run.id, attempt=run.attempt, model=run.model)
    id, noted = _append_start(run, event), 0
    while id != noted:
        _record_start(run, id)
        noted = id
        # Whoever looked at a life that began between the two has not heard of it. But where Redis
        # went away only now, everybody who looks finds it in the row.
        with suppress(LogUnavailable):
            id = _append_start(run, event)
    return id


def _append_start(run: Run, event: RunStarted) -> int:
    channel, known = channel_of(run.conversation_id), run.conversation.head
    return the_log().append_start(channel, event, min_head=known, abandoned=run.abandoned)


def _record_start(run: Run, id: int) -> None:
    mine = Run.objects.filter(pk=run.pk, attempt=run.attempt, status=Run.Status.RUNNING)
    if not mine.update(started_event_id=id):
        if not Run.active().filter(pk=run.pk).exists():
            # The log was lost since the run ended, and has taken this attempt for its first.
            the_log().release_run(channel_of(run.conversation_id), run.id)
        raise Superseded
    run.conversation.advance_head(id)


def publish_pending(conversation: Conversation, *, most: int | None = None) -> None:
    """Say whatever is so but was not said yet, in turn order. Raises `LogUnavailable`.

    Of at most so many runs, where `most` is given: the next call goes on from there.
    """
    asked: set[UUID] = set()  # questions that were said with an earlier run of theirs
    said = 0
    for run in conversation.runs.filter(UNPUBLISHED).select_related("message", "reply"):
        said += run.queued_event_id is None or not run.is_active
        if most is not None and said > most:
            return
        if run.queued_event_id is None:
            publish_queued(run, conversation, question=run.message_id not in asked)
            asked.add(run.message_id)
        if not run.is_active:
            publish_final(run, conversation)
        elif run.cancel_asked:
            return  # what comes after it is said after its ending


def publish_queued(run: Run, conversation: Conversation, *, question: bool) -> None:
    """Say that the run waits, and its question before it, unless that was said."""
    news: list[MessageCreated | RunQueued] = [RunQueued(run=run.id, message=run.message_id)]
    if question and run.message.event is None:
        news.insert(0, MessageCreated(message=run.message.view()))
    channel = channel_of(conversation.id)
    ids = the_log().append_once(channel, *news, min_head=conversation.head, run=run.id)
    with transaction.atomic():
        conversation.advance_head(ids[-1])
        Run.objects.filter(pk=run.pk).update(queued_event_id=ids[-1])
        if len(ids) > 1:
            Message.objects.filter(pk=run.message_id).update(event=ids[0])


def publish_final(run: Run, conversation: Conversation) -> None:
    """Say the ending of a run that has ended, and note in its row that it was said."""
    channel = channel_of(conversation.id)
    text = run.reply.content if run.reply else ""
    id = the_log().append_final(
        channel, final_event_of(run), text, model=run.model, min_head=conversation.head
    )
    with transaction.atomic():
        conversation.advance_head(id)
        Run.objects.filter(pk=run.pk).update(ended_event_id=id)
        if run.reply_id:
            Message.objects.filter(pk=run.reply_id).update(event=id)
    the_log().release_run(channel, run.id)
    logger.info("run %s attempt %s %s, said as %s", run.id, run.attempt, run.status, id)


def final_event_of(run: Run) -> Ending:
    """The event that says how this run ended."""
    match run.status:
        case Run.Status.COMPLETED:
            return RunCompleted(
                run=run.id,
                attempt=run.attempt,
                reply=run.reply_id,
                finish_reason=run.finish_reason,
                usage=run.usage,
            )
        case Run.Status.CANCELLED:
            return RunCancelled(
                run=run.id, attempt=run.attempt, reply=run.reply_id, usage=run.usage
            )
        case _:
            return RunFailed(
                run=run.id,
                attempt=run.attempt,
                reply=run.reply_id,
                code=run.code,
                reason=run.reason,
                usage=run.usage,
            )


def publish_title(conversation: Conversation) -> None:
    """Say the conversation's new title, and note that it was said. Raises `LogUnavailable`."""
    event = ConversationUpdated(title=conversation.title, model=conversation.model)
    channel = channel_of(conversation.id)
    (id,) = the_log().append_once(channel, event, min_head=conversation.head)
    conversation.advance_head(id)
    same = Conversation.objects.filter(pk=conversation.pk, title=conversation.title)
    same.update(title_pending_since=None)  # unless there is a newer one by now


def publish_deletion(conversation: UUID) -> None:
    """End the channel of a deleted conversation for good, and note it. Raises `LogUnavailable`."""
    the_log().delete(channel_of(conversation))
    DeletedConversation.objects.filter(pk=conversation).delete()
