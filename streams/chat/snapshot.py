"""What a conversation is now, and the cursor from which its events go on.

The log is looked at first and the database read after it: whatever was said up to the cursor
stands in the rows by then, or is among what the look brought; whatever the rows hold beyond the
cursor is left out, for the tail will say it.
"""

from contextlib import suppress
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models import Q
from django.urls import reverse

from streams.chat import pagination
from streams.chat.publisher import publish_pending
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import the_log
from streams.log.values import LogState, RunProgress
from streams.models import Conversation, Message, Run
from streams.protocol.events import LiveRun, MessageView, Snapshot

PAGE_SIZE = 100  # messages
MESSAGE_FIELDS = (
    "role",
    "content",
    "turn",
    "reply_to",
    "created_at",
    "written_by__reply",
)  # of each
UNSTARTED = RunProgress(attempt=0, text="", reasoning="")


def snapshot(conversation: Conversation) -> Snapshot:
    """The conversation as it is. `cursor` is None while Redis is away: the database tells all."""
    look = log_state(conversation)
    runs = unpublished_runs(conversation, look)
    if look and any(_is_unpublished(run, look) for run in runs):
        # Redis was away, or has lost what it was told: whoever comes first says it.
        with suppress(LogUnavailable, Superseded, DatabaseError):
            publish_pending(conversation)
        look = log_state(conversation)
        runs = unpublished_runs(conversation, look)
    conversation.refresh_from_db(fields=["title", "model"])
    messages, earlier = message_page(conversation, published_messages(look, runs))
    live = (active_run(run, look) for run in runs)
    return Snapshot(
        id=conversation.id,
        title=conversation.title,
        model=conversation.model,
        created_at=conversation.created_at,
        messages=messages,
        earlier=earlier,
        runs=tuple(run for run in live if run),
        cursor=look.head if look else None,
    )


def log_state(conversation: Conversation) -> LogState | None:
    """What its channel is at this moment; None while Redis is away."""
    try:
        return the_log().state(channel_of(conversation.id), min_head=conversation.head)
    except LogUnavailable:
        return None


def recorded_head(conversation: UUID) -> int:
    """The highest event id that the row notes; 0 where the database cannot be asked."""
    found = Conversation.objects.filter(pk=conversation)
    try:
        return found.values_list("head", flat=True).first() or 0
    except (OperationalError, InterfaceError):
        connection.close()
        return 0  # a stream outlives the database, as long as the log tells it all


def message_page(
    conversation: Conversation, published: Q | None = None, before: Message | None = None
) -> tuple[tuple[MessageView, ...], str | None]:
    """The latest messages (before that one), oldest first, and the URL of those before them."""
    messages = conversation.messages.select_related("written_by").only(*MESSAGE_FIELDS)
    if published is not None:
        messages = messages.filter(published)
    if before is not None:
        same_turn = Q(turn=before.turn) & pagination.created_before(
            before.created_at, id__lt=before.id
        )
        messages = messages.filter(Q(turn__lt=before.turn) | same_turn)
    found = list(messages.order_by("-turn", "-created_at", "-id")[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE][::-1]
    earlier = None
    if len(found) > PAGE_SIZE:
        path = reverse("unspool:messages", kwargs={"conversation": conversation.id})
        earlier = f"{path}?before={shown[0].id}"
    return tuple(message.view() for message in shown), earlier


def unpublished_runs(conversation: Conversation, look: LogState | None) -> list[Run]:
    """The runs whose ending readers at the look's head have not heard."""
    unheard = Q(ended_event_id=None)
    if look:
        unheard |= Q(ended_event_id__gt=look.head)
    return list(conversation.runs.filter(unheard).select_related("reply"))


def _is_unpublished(run: Run, look: LogState) -> bool:
    """Whether readers are yet to be told of its question or its ending, and nobody has."""
    unasked = run.queued_event_id is None and (run.id, "queued") not in look.recorded
    unended = run.ended_event_id is None and (run.id, "ending") not in look.recorded
    return unasked or (unended and not run.is_active)


def published_messages(look: LogState | None, runs: list[Run]) -> Q | None:
    """Which messages readers at the look's head have heard of; None: whatever there is."""
    if look is None:
        return None
    noted_only_there: set[UUID | None] = set()
    for run in runs:
        if (run.id, "message") in look.recorded:
            noted_only_there.add(run.message_id)
        if (run.id, "ending") in look.recorded:
            noted_only_there.add(run.reply_id)
    return (
        Q(role=Message.Role.SYSTEM)
        | Q(event__lte=look.head)
        | Q(event=None, pk__in=noted_only_there - {None})
    )


def active_run(run: Run, look: LogState | None) -> LiveRun | None:
    """The run as readers at the look's head know it; None where they don't, or it has ended."""
    if look is None:
        return _from_row(run, look) if run.is_active else None
    queued = run.queued_event_id or look.recorded.get((run.id, "queued"))
    if (run.id, "ending") in look.recorded or queued is None or queued > look.head:
        return None
    said = look.runs.get(run.id)
    if said is None and (run.id, "queued") in look.recorded:
        said = UNSTARTED  # a worker may have claimed it, but run.started is yet to be said
    return _from_log(run, said) if said else _from_row(run, look)


def _from_log(run: Run, said: RunProgress) -> LiveRun:
    return LiveRun(
        id=run.id,
        status=Run.Status.RUNNING if said.attempt else Run.Status.QUEUED,
        attempt=said.attempt,
        message=run.message_id,
        text=said.text,
        reasoning=said.reasoning,
    )


def _from_row(run: Run, look: LogState | None) -> LiveRun:
    begun = run.started_event_id is not None and (look is None or run.started_event_id <= look.head)
    claimed = run.status == Run.Status.RUNNING and not begun  # the tail will say that it is
    return LiveRun(
        id=run.id,
        status=Run.Status.QUEUED
        if claimed
        else run.status
        if run.is_active
        else Run.Status.RUNNING,
        attempt=run.attempt - claimed,
        message=run.message_id,
        text=run.reply.content if run.reply else "",
        reasoning="",
    )
