"""The publisher of events (a transactional outbox): every append to a channel's log is made here.

The row that requires an event is committed first, and gets the event's id after the append. Any
process can repeat an unfinished step, because the log returns the same id for a repeated event.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from django.db import transaction
from django.db.models import BigIntegerField, IntegerField, UUIDField

from streams.chat.final_events import final_event_of, missing_events
from streams.chat.message_view import message_view
from streams.compiled_query import CompiledUpdate, Parameter
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable, LogUnverified, ReplyChanged, Superseded
from streams.log.event_log import log_of, the_log
from streams.log.values import Append, SealedReply, Watermark
from streams.models import UNPUBLISHED, Conversation, DeletedConversation, Message, Run
from streams.observability import metrics
from streams.protocol.events import (
    ConversationUpdated,
    MessageCreated,
    RunQueued,
    RunStarted,
)

logger = logging.getLogger(__name__)
# The most runs whose events one request publishes. The worker or the sweep publishes the rest.
RUNS_PER_REQUEST = 20

ROW = Parameter("id", UUIDField())
EVENT = Parameter("event", BigIntegerField())
RECORD_QUEUED = CompiledUpdate(
    lambda: Run.objects.filter(pk=ROW), lambda: {"queued_event_id": EVENT}
)
RECORD_START = CompiledUpdate(
    lambda: Run.objects.filter(
        pk=ROW, attempt=Parameter("attempt", IntegerField()), status=Run.Status.RUNNING
    ),
    lambda: {"started_event_id": EVENT, "input_tokens": Parameter("tokens", IntegerField())},
)
RECORD_FINAL = CompiledUpdate(lambda: Run.objects.filter(pk=ROW), lambda: {"ended_event_id": EVENT})
RECORD_MESSAGE = CompiledUpdate(lambda: Message.objects.filter(pk=ROW), lambda: {"event": EVENT})


def append(appends: Sequence[Append]) -> list[int | Exception]:
    """Append pieces of replies in one round trip to one server.

    Returns for each its event id, or the exception that refused it. Raises `LogUnavailable`.
    """
    answers = the_log().append(appends)
    metrics.DELTAS_APPENDED.inc(sum(isinstance(answer, int) for answer in answers))
    metrics.APPENDS_REJECTED.inc(sum(isinstance(answer, Superseded) for answer in answers))
    return answers


def verify(watermarks: Sequence[Watermark]) -> None:
    """Check that the logs hold all published events, because Redis may have lost some.

    An attempt's published events, and all events up to the recorded head, must be in the log. A log
    that has lost some of them begins a new epoch.
    """
    runs = Run.objects.filter(pk__in=[watermark.run for watermark in watermarks])
    heads = dict(runs.values_list("id", "conversation__head"))
    the_log().verify([replace(w, head=max(w.head, heads.get(w.run, 0))) for w in watermarks])


def publish_start(run: Run) -> int:
    """Append run.started and raise the fence. Returns the event's id.

    The id is recorded together with the run's `input_tokens`, which another process needs if it
    ends the run. Raises `Superseded`, `LogUnavailable`.
    """
    if run.follows_unpublished:
        # If the log is unverified, appending run.started verifies it. The sweep then publishes the
        # events that are skipped here.
        with suppress(LogUnverified):
            publish_pending(run.conversation)
    event = RunStarted(run=run.id, attempt=run.attempt, model=run.model)
    id, recorded_id = _append_start(run, event), 0
    while id != recorded_id:
        _record_start(run, id)
        recorded_id = id
        # A new epoch, which lacks this event, may have begun before the id was recorded. So append
        # the event again, which returns the same id unless the epoch is new. If Redis is away now,
        # nothing is lost, because the row has the id, and snapshots take the start from the row.
        with suppress(LogUnavailable):
            id = _append_start(run, event)
    return id


def _append_start(run: Run, event: RunStarted) -> int:
    log = log_of(run.conversation_id, run.conversation.head)
    return log.append_start(event, abandoned=run.abandoned)


def _record_start(run: Run, id: int) -> None:
    with transaction.atomic():  # one commit; the conversation's row is locked first
        run.conversation.advance_head(id)
        recorded = RECORD_START.run(
            id=run.pk, attempt=run.attempt, event=id, tokens=run.input_tokens
        )
        if not recorded:
            transaction.set_rollback(True)
    if not recorded:
        if not Run.active().filter(pk=run.pk).exists():
            # The run has ended, and its log was lost afterwards. The new log does not know the end,
            # so it has accepted this attempt: remove the data that it keeps for the run.
            log_of(run.conversation_id).release_run(run.id)
        raise Superseded


def publish_pending(
    conversation: Conversation, *, most: int | None = None, alone: Run | None = None
) -> None:
    """Append all unpublished events of the conversation, in turn order. Raises `LogUnavailable`.

    With `most`, publish the events of at most `most` runs; the next call continues from there.
    `alone` is a new run with a new message, if the caller knows that nothing else is unpublished.
    """
    if alone:
        publish_queued(alone, conversation, question=True)
        return
    published: set[UUID] = set()  # user messages that this call has published with a run
    count = 0
    for run in conversation.runs.filter(UNPUBLISHED).select_related("message", "reply"):
        count += run.queued_event_id is None or not run.is_active
        if most is not None and count > most:
            return
        if run.queued_event_id is None:
            publish_queued(run, conversation, question=run.message_id not in published)
            published.add(run.message_id)
        if not run.is_active:
            publish_final(run, conversation)
        elif run.cancel_asked:
            return  # the events of later runs come after this run's final event


def publish_queued(run: Run, conversation: Conversation, *, question: bool) -> None:
    """Append run.queued. With `question`, append message.created first, if it is unpublished.

    Raises `LogUnavailable`, `Superseded`.
    """
    events: list[MessageCreated | RunQueued] = [RunQueued(run=run.id, message=run.message_id)]
    if question and run.message.event is None:
        events.insert(0, MessageCreated(message=message_view(run.message)))
    ids = log_of(conversation.id, conversation.head).append_once(*events, run=run.id)
    with transaction.atomic():
        conversation.advance_head(ids[-1])
        RECORD_QUEUED.run(id=run.pk, event=ids[-1])
        if len(ids) > 1:
            RECORD_MESSAGE.run(id=run.message_id, event=ids[0])


def publish_final(
    run: Run, conversation: Conversation, *, sealed: SealedReply | None = None
) -> None:
    """Append the final event of a run that has ended, and record its id in the rows.

    `sealed` is the result of `seal`, if the caller has sealed this attempt's reply. Raises
    `LogUnavailable`, `Superseded`.
    """
    log = log_of(conversation.id, conversation.head)
    id = _append_final(run, log, sealed)
    with transaction.atomic():
        conversation.advance_head(id)
        RECORD_FINAL.run(id=run.pk, event=id)
        if run.reply_id:
            RECORD_MESSAGE.run(id=run.reply_id, event=id)
    log.release_run(run.id)
    logger.info("run %s attempt %s %s, published as event %s", run.id, run.attempt, run.status, id)


def _append_final(run: Run, log: ChannelLog, sealed: SealedReply | None) -> int:
    """Append the final event, after the events that readers lack. Returns the final event's id."""
    for _ in range(3):
        sealed = sealed or log.seal(run.id, run.attempt, ended=True)
        before = missing_events(run, sealed)
        with suppress(ReplyChanged):  # a new epoch began in between
            return log.append_final(final_event_of(run), *before, token=sealed.token)
        sealed = None
    raise ReplyChanged


def publish_title(conversation: Conversation) -> None:
    """Append conversation.updated, and record that in the row.

    Raises `LogUnavailable`, `Superseded`.
    """
    event = ConversationUpdated(title=conversation.title, model=conversation.model)
    (id,) = log_of(conversation.id, conversation.head).append_once(event)
    conversation.advance_head(id)
    current = Conversation.objects.filter(pk=conversation.pk, title=conversation.title)
    current.update(title_pending_since=None)  # unless the title has changed again


def publish_deletion(conversation: UUID) -> None:
    """Delete a deleted conversation's log, then its `DeletedConversation` row.

    Raises `LogUnavailable`.
    """
    log_of(conversation).delete()
    DeletedConversation.objects.filter(pk=conversation).delete()
