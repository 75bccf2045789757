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

from streams import moments
from streams.channels import channel_of
from streams.events import LiveRun, Snapshot, Spoken
from streams.models import Conversation, Message, Run
from streams.passages import Look, Said
from streams.publish import finish, the_log
from streams.verdicts import Away, Superseded

PAGE = 100  # messages
TOLD = ("role", "content", "turn", "reply_to", "created_at", "written_by__reply")  # of each
UNSTARTED = Said(attempt=0, text="", reasoning="")


def snapshot(conversation: Conversation) -> Snapshot:
    """The conversation as it is. `cursor` is None while Redis is away: the database tells all."""
    look = look_at(conversation)
    runs = unsettled(conversation, look)
    if look and any(_owed(run, look) for run in runs):
        # Redis was away, or has lost what it was told: whoever comes first says it.
        with suppress(Away, Superseded, DatabaseError):
            finish(conversation)
        look = look_at(conversation)
        runs = unsettled(conversation, look)
    conversation.refresh_from_db(fields=["title", "model"])
    messages, earlier = page(conversation, said_by(look, runs))
    live = (live_run(run, look) for run in runs)
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


def look_at(conversation: Conversation) -> Look | None:
    """What its channel is at this moment; None while Redis is away."""
    try:
        return the_log().look(channel_of(conversation.id), known=conversation.head)
    except Away:
        return None


def noted(conversation: UUID) -> int:
    """The highest event id that the row notes; 0 where the database cannot be asked."""
    found = Conversation.objects.filter(pk=conversation)
    try:
        return found.values_list("head", flat=True).first() or 0
    except (OperationalError, InterfaceError):
        connection.close()
        return 0  # a stream outlives the database, as long as the log tells it all


def page(
    conversation: Conversation, said: Q | None = None, before: Message | None = None
) -> tuple[tuple[Spoken, ...], str | None]:
    """The latest messages (before that one), oldest first, and the URL of those before them."""
    messages = conversation.messages.select_related("written_by").only(*TOLD)
    if said is not None:
        messages = messages.filter(said)
    if before is not None:
        same_turn = Q(turn=before.turn) & moments.before(before.created_at, id__lt=before.id)
        messages = messages.filter(Q(turn__lt=before.turn) | same_turn)
    found = list(messages.order_by("-turn", "-created_at", "-id")[: PAGE + 1])
    shown = found[:PAGE][::-1]
    earlier = None
    if len(found) > PAGE:
        path = reverse("api:messages", kwargs={"conversation": conversation.id})
        earlier = f"{path}?before={shown[0].id}"
    return tuple(message.spoken() for message in shown), earlier


def unsettled(conversation: Conversation, look: Look | None) -> list[Run]:
    """The runs whose ending readers at the look's head have not heard."""
    unheard = Q(ended_event=None)
    if look:
        unheard |= Q(ended_event__gt=look.head)
    return list(conversation.runs.filter(unheard).select_related("reply"))


def _owed(run: Run, look: Look) -> bool:
    """Whether readers are yet to be told of its question or its ending, and nobody has."""
    unasked = run.queued_event is None and (run.id, "queued") not in look.once
    unended = run.ended_event is None and (run.id, "ending") not in look.once
    return unasked or (unended and not run.live)


def said_by(look: Look | None, runs: list[Run]) -> Q | None:
    """Which messages readers at the look's head have heard of; None: whatever there is."""
    if look is None:
        return None
    noted_only_there: set[UUID | None] = set()
    for run in runs:
        if (run.id, "message") in look.once:
            noted_only_there.add(run.message_id)
        if (run.id, "ending") in look.once:
            noted_only_there.add(run.reply_id)
    return (
        Q(role=Message.Role.SYSTEM)
        | Q(event__lte=look.head)
        | Q(event=None, pk__in=noted_only_there - {None})
    )


def live_run(run: Run, look: Look | None) -> LiveRun | None:
    """The run as readers at the look's head know it; None where they don't, or it has ended."""
    if look is None:
        return _as_stored(run, look) if run.live else None
    queued = run.queued_event or look.once.get((run.id, "queued"))
    if (run.id, "ending") in look.once or queued is None or queued > look.head:
        return None
    said = look.runs.get(run.id)
    if said is None and (run.id, "queued") in look.once:
        said = UNSTARTED  # a worker may have claimed it, but run.started is yet to be said
    return _as_said(run, said) if said else _as_stored(run, look)


def _as_said(run: Run, said: Said) -> LiveRun:
    return LiveRun(
        id=run.id,
        status=Run.Status.RUNNING if said.attempt else Run.Status.QUEUED,
        attempt=said.attempt,
        message=run.message_id,
        text=said.text,
        reasoning=said.reasoning,
    )


def _as_stored(run: Run, look: Look | None) -> LiveRun:
    begun = run.started_event is not None and (look is None or run.started_event <= look.head)
    claimed = run.status == Run.Status.RUNNING and not begun  # the tail will say that it is
    return LiveRun(
        id=run.id,
        status=Run.Status.QUEUED if claimed else run.status if run.live else Run.Status.RUNNING,
        attempt=run.attempt - claimed,
        message=run.message_id,
        text=run.reply.content if run.reply else "",
        reasoning="",
    )
