"""Stores the end of a run, its status and its reply, and finds the work that is left."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import (
    BigIntegerField,
    BooleanField,
    CharField,
    DateTimeField,
    F,
    Field,
    IntegerField,
    UUIDField,
)
from django.db.models.functions import Coalesce, Greatest, Now

from streams.chat import new_rows
from streams.chat.message_view import stored_parts
from streams.chat.waiting_runs import undispatched
from streams.compiled_query import CompiledQuery, CompiledUpdate, Parameter, count
from streams.log.errors import Superseded
from streams.models import UNPUBLISHED, Conversation, Message, Run
from streams.observability import metrics
from streams.protocol.events import Usage
from streams.protocol.parts import Part, text_of

CHARS_PER_TOKEN = 4  # roughly; a usage that is computed with it is marked as estimated

RUN = Parameter("run", UUIDField())
CONVERSATION = Parameter("conversation", UUIDField())
KEEP_HEAD = CompiledUpdate(  # this also locks the conversation's row, before the run's row
    lambda: Conversation.objects.filter(pk=CONVERSATION),
    lambda: {"head": Greatest(F("head"), Parameter("head", BigIntegerField()))},
)
STORED: "dict[str, Field[Any, Any]]" = {
    "status": CharField(),
    "finish_reason": CharField(),
    "code": CharField(),
    "reason": CharField(),
    "reply_id": UUIDField(),
    "input_tokens": IntegerField(),
    "output_tokens": IntegerField(),
    "total_tokens": IntegerField(),
    "estimated": BooleanField(),
}
STORE = CompiledUpdate(
    lambda: Run.objects.filter(
        pk=RUN, attempt=Parameter("attempt", IntegerField()), status__in=Run.ACTIVE
    ),
    lambda: {
        **{name: Parameter(name, field) for name, field in STORED.items()},
        "ended_at": Now(),
        "worker": None,
        "lease_until": None,
        "lease_length": None,
        "first_token_at": Coalesce(
            Parameter("first_token_at", DateTimeField()), F("first_token_at")
        ),
    },
)
REST = CompiledQuery(
    lambda: count(Run.objects.filter(UNPUBLISHED, pk=RUN, queued_event_id__isnull=False)),
    lambda: count(Run.objects.filter(UNPUBLISHED, conversation=CONVERSATION)),
    lambda: count(undispatched(Parameter("owner", CharField()))),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """The work that is left after a run's end is stored.

    `is_alone`: the conversation has no other active run and no unpublished event except the run's
    final event, and the `Run` instance holds all data of that event.
    """

    is_alone: bool
    refused: int  # active runs of the owner without a task


def store(
    run: Run, parts: tuple[Part, ...], usage: Usage | None, *, status: str, **outcome: str
) -> None:
    """Store how the run ended, and its reply. Raises `Superseded` if the attempt has lost the run.

    Without `usage`, an estimate is stored. `run` gets the stored values.
    """
    text = text_of(parts)
    used = usage or _estimate(run, text)
    has_reply = bool(parts) or status == Run.Status.COMPLETED
    reply = Message(
        id=uuid4(),
        conversation_id=run.conversation_id,
        role=Message.Role.ASSISTANT,
        content=text,
        parts=stored_parts(parts),
        turn=run.message.turn,
        reply_to_id=run.message_id,
    )
    stored: dict[str, Any] = {
        "status": status,
        **{name: outcome.get(name, "") for name in ("finish_reason", "code", "reason")},
        "reply_id": reply.id if has_reply else None,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "estimated": used.estimated,
    }
    with transaction.atomic():
        KEEP_HEAD.run(conversation=run.conversation_id, head=run.conversation.head)
        own = {"run": run.pk, "attempt": run.attempt, "first_token_at": run.first_token_at}
        if not STORE.run(**own, **stored):
            raise Superseded  # another worker has claimed the run, or the run has ended
        if has_reply:
            new_rows.MESSAGES.insert(reply)
    for name, value in stored.items():
        setattr(run, name, value)
    run.reply = reply if has_reply else None
    metrics.RUNS_ENDED.labels(status, outcome.get("code", "")).inc()


def rest_of(run: Run) -> Rest:
    """Query the work that is left after this run's end, which the caller has stored."""
    row = REST.row(run=run.pk, conversation=run.conversation_id, owner=run.owner)
    own, unpublished, refused = row or (0, 0, 0)
    # Parts must be read again from the row, because the database may change numbers in them.
    in_hand = run.reply is None or run.reply.parts is None
    return Rest(is_alone=own == unpublished == 1 and in_hand, refused=refused)


def _estimate(run: Run, text: str) -> Usage:
    output = -(-len(text) // CHARS_PER_TOKEN)  # rounded up
    return Usage(
        input_tokens=run.input_tokens,
        output_tokens=output,
        total_tokens=run.input_tokens + output,
        estimated=True,
    )
