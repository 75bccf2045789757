"""The snapshot of a conversation, and the cursor from which its events continue.

The log's state is read before the database. So the rows or the state contain every event up to
the cursor. Rows that are newer than the cursor are left out, because later events bring them.
"""

from contextlib import suppress
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models import IntegerField, OuterRef, Q, Subquery, TextField, UUIDField
from django.db.models.functions import Cast, Coalesce
from django.urls import reverse

from streams.chat.message_view import message_view, parts_of
from streams.chat.pagination import Octets, count_that_fits, created_before
from streams.chat.publisher import RUNS_PER_REQUEST, publish_pending
from streams.compiled_query import CompiledQuery, Parameter
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import log_of
from streams.log.values import LogState, RunProgress
from streams.models import Conversation, Message, Run
from streams.protocol.events import EndedRun, LiveRun, MessageView, Snapshot

PAGE_SIZE = 100  # messages
PAGE_BYTES = 2 * 1024 * 1024  # of the messages' text and parts in UTF-8
MESSAGE_FIELDS = ("role", "content", "parts", "turn", "reply_to", "created_at", "written_by__reply")
# A message is sent with its text and its parts. If no parts are stored, its text is its only part.
MESSAGE_BYTES = Octets("content") + Coalesce(
    Octets(Cast("parts", TextField())), Octets("content"), output_field=IntegerField()
)
UNSTARTED = RunProgress(attempt=0)
RECORDED_HEAD = CompiledQuery(
    lambda: (
        Conversation.objects.filter(pk=Parameter("id", UUIDField())).order_by().values_list("head")
    )
)


def snapshot(conversation: Conversation) -> Snapshot:
    """Return the conversation's snapshot.

    While Redis is away, `cursor` is None, and the snapshot is built from the database alone.
    """
    state = log_state(conversation)
    runs = unpublished_runs(conversation, state)
    if state and any(_is_unpublished(run, state) for run in runs):
        # Redis was away or has lost events, so some are unpublished. This request publishes the
        # first of them, and the sweep the rest. The snapshot shows only what is published by now.
        with suppress(LogUnavailable, Superseded, DatabaseError):
            publish_pending(conversation, most=RUNS_PER_REQUEST)
        state = log_state(conversation)
        runs = unpublished_runs(conversation, state)
    conversation.refresh_from_db(fields=["title", "model"])
    messages, earlier = message_page(conversation, published_messages(state, runs))
    active = tuple(live for run in runs if (live := active_run(run, state)))
    return Snapshot(
        id=conversation.id,
        title=conversation.title,
        model=conversation.model,
        created_at=conversation.created_at,
        messages=messages,
        earlier=earlier,
        runs=active,
        unanswered=unanswered_runs(messages, active, ended_runs(state, runs)),
        cursor=state.head if state else None,
    )


def log_state(conversation: Conversation) -> LogState | None:
    """Return the current state of the conversation's log; None while Redis is away.

    If the log has lost events, a new epoch begins.
    """
    log = log_of(conversation.id, conversation.head)
    try:
        state = log.state()
        if state is None:
            log.repair()
            state = log.state()
        return state
    except LogUnavailable:
        return None


def recorded_head(conversation: UUID) -> int:
    """Return the row's highest event id; 0 if there is no row, or the database is away."""
    try:
        return RECORDED_HEAD.value(id=conversation) or 0
    except (OperationalError, InterfaceError):
        connection.close()
        return 0  # streams continue without the database, as long as the log has all events


def message_page(
    conversation: Conversation, published: Q | None = None, before: Message | None = None
) -> tuple[tuple[MessageView, ...], str | None]:
    """Return the latest messages, oldest first, and the URL of the page before them.

    With `before`, the page ends before that message. Without `published`, all messages count. The
    URL is None if there are no earlier messages. A page has at most PAGE_SIZE messages and
    PAGE_BYTES of text and parts, but always one message.
    """
    messages = conversation.messages.all()
    if published is not None:
        messages = messages.filter(published)
    if before is not None:
        same_turn = Q(turn=before.turn) & created_before(before.created_at, id__lt=before.id)
        messages = messages.filter(Q(turn__lt=before.turn) | same_turn)
    newest_first = messages.order_by("-turn", "-created_at", "-id")
    sizes = dict(newest_first.values_list("pk", MESSAGE_BYTES)[: PAGE_SIZE + 1])
    chosen = list(sizes)[: count_that_fits([*sizes.values()], rows=PAGE_SIZE, octets=PAGE_BYTES)]
    page = conversation.messages.filter(pk__in=chosen).select_related("written_by")
    earlier = None
    if len(sizes) > len(chosen):
        path = reverse("unspool:messages", kwargs={"conversation": conversation.id})
        earlier = f"{path}?before={chosen[-1]}"
    return tuple(message_view(message) for message in page.only(*MESSAGE_FIELDS)), earlier


def unpublished_runs(conversation: Conversation, state: LogState | None) -> list[Run]:
    """Return the runs whose final event is not recorded, or comes after the state's head."""
    unpublished = Q(ended_event_id=None)
    if state:
        unpublished |= Q(ended_event_id__gt=state.head)
    return list(conversation.runs.filter(unpublished).select_related("reply"))


def _is_unpublished(run: Run, state: LogState) -> bool:
    """Whether run.queued, or the final event of an ended run, is in neither row nor log."""
    no_queued = run.queued_event_id is None and (run.id, "queued") not in state.recorded
    no_final = run.ended_event_id is None and (run.id, "final") not in state.recorded
    return no_queued or (no_final and not run.is_active)


def published_messages(state: LogState | None, runs: list[Run]) -> Q | None:
    """Select the messages published up to the state's head. Without a state, None: select all."""
    if state is None:
        return None
    recorded_in_log: set[UUID | None] = set()
    for run in runs:
        if (run.id, "message") in state.recorded:
            recorded_in_log.add(run.message_id)
        if (run.id, "final") in state.recorded:
            recorded_in_log.add(run.reply_id)
    return (
        Q(role=Message.Role.SYSTEM)
        | Q(event__lte=state.head)
        | Q(event=None, pk__in=recorded_in_log - {None})
    )


def ended_runs(state: LogState | None, runs: list[Run]) -> Q:
    """Select the runs whose final event is at or before the state's head."""
    if state is None:
        return ~Q(status__in=Run.ACTIVE)
    recorded_in_log = [run.pk for run in runs if (run.id, "final") in state.recorded]
    return Q(ended_event_id__lte=state.head) | Q(pk__in=recorded_in_log)


def unanswered_runs(
    messages: tuple[MessageView, ...], active: tuple[LiveRun, ...], ended: Q
) -> tuple[EndedRun, ...]:
    """Return the last ended run of each user message that has no reply and no active run."""
    answered = {message.reply_to for message in messages} | {run.message for run in active}
    asked = [m.id for m in messages if m.role == "user" and m.id not in answered]
    if not asked:
        return ()
    newest_first = Run.objects.filter(ended, message=OuterRef("pk")).order_by("-created_at", "-id")
    last = Message.objects.filter(pk__in=asked).values(last=Subquery(newest_first.values("pk")[:1]))
    found = Run.objects.filter(pk__in=last, status__in=Run.UNFINISHED, reply=None)
    return tuple(
        EndedRun(
            id=run.id,
            status="failed" if run.status == Run.Status.FAILED else "cancelled",
            attempt=run.attempt,
            message=run.message_id,
            code=run.code or None,
            reason=run.reason or None,
            usage=run.usage,
        )
        for run in found
    )


def active_run(run: Run, state: LogState | None) -> LiveRun | None:
    """Return the run at the state's head; None if it is unpublished or has ended there."""
    if state is None:
        return _from_row(run, state) if run.is_active else None
    queued = run.queued_event_id or state.recorded.get((run.id, "queued"))
    if (run.id, "final") in state.recorded or queued is None or queued > state.head:
        return None
    progress = state.runs.get(run.id)
    if progress is None and (run.id, "queued") in state.recorded:
        progress = UNSTARTED  # a worker may have claimed the run, but run.started is unpublished
    if progress:
        return _live(run, progress, is_running=progress.attempt > 0)
    return _from_row(run, state)


def _live(run: Run, progress: RunProgress, *, is_running: bool) -> LiveRun:
    return LiveRun(
        id=run.id,
        status="running" if is_running else "queued",
        attempt=progress.attempt,
        message=run.message_id,
        text=progress.text,
        reasoning=progress.reasoning,
        parts=progress.parts,
    )


def _from_row(run: Run, state: LogState | None) -> LiveRun:
    started = run.started_event_id is not None and (
        state is None or run.started_event_id <= state.head
    )
    claimed = run.status == Run.Status.RUNNING and not started  # run.started follows the cursor
    attempt = run.attempt - 1 if claimed else run.attempt
    progress = RunProgress(attempt=attempt, parts=parts_of(run.reply))
    return _live(run, progress, is_running=not claimed and run.status != Run.Status.QUEUED)
