"""The two statements of a claim: the first active run of a conversation, and its new attempt."""

from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.models import (
    BooleanField,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    UUIDField,
)
from django.db.models.functions import Now

from streams.chat.leases import abandoned, held, new_lease, retryable
from streams.compiled_query import CompiledQuery, CompiledUpdate, Parameter
from streams.models import UNPUBLISHED, Conversation, Message, Run

RUN = [field.attname for field in Run._meta.concrete_fields]
CONVERSATION = [field.attname for field in Conversation._meta.concrete_fields]
MESSAGE = [field.attname for field in Message._meta.concrete_fields]


def first_active(run: UUID) -> tuple[Run, bool] | None:
    """Return the first active run of this run's conversation, and whether a worker holds it.

    Returns None if no run is active. The run has its conversation and message loaded, and
    `follows_unpublished` says whether it follows unpublished events.
    """
    row = _first_active().row(run=run)
    if row is None:
        return None
    values = iter(row)
    first = Run.from_db(DEFAULT_DB_ALIAS, RUN, [next(values) for _ in RUN])
    first.conversation = Conversation.from_db(
        DEFAULT_DB_ALIAS, CONVERSATION, [next(values) for _ in CONVERSATION]
    )
    first.message = Message.from_db(DEFAULT_DB_ALIAS, MESSAGE, [next(values) for _ in MESSAGE])
    is_held, has_others = values
    first.follows_unpublished = has_others or first.queued_event_id is None
    return first, is_held


def update_claimed(run: Run, worker: UUID) -> bool:
    """Begin the run's next attempt for this worker, and copy the row's new values to `run`.

    Returns False if the row has changed since it was read: another worker holds the run, or it has
    ended or is cancelled.
    """
    update = _claim((settings.RUN_LEASE, settings.RUN_ATTEMPTS))
    row = update.row(id=run.pk, attempt=run.attempt, worker=worker)
    if row is None:
        return False
    # If the last attempt's worker died, or the run was released before its start was recorded, the
    # log may hold events that the row does not record.
    unstarted = run.attempt > 0 and run.started_event_id is None
    run.abandoned = unstarted or run.status == Run.Status.RUNNING
    for name, value in zip(RUN, row, strict=True):
        setattr(run, name, value)
    return True


@lru_cache(maxsize=1)
def _first_active() -> CompiledQuery:
    return CompiledQuery(_first_active_rows)


def _first_active_rows() -> QuerySet[Run, Any]:
    # Runs are sorted by turn. All runs of a conversation are of one kind, model or agent.
    active = Run.active().filter(conversation__runs=Parameter("run", UUIDField()))
    others = Run.objects.filter(UNPUBLISHED, conversation=OuterRef("conversation"))
    rows: QuerySet[Run, Any] = active.annotate(
        _held=ExpressionWrapper(held(), BooleanField()),
        _others=Exists(others.exclude(pk=OuterRef("pk"))),
    ).values_list(
        *RUN,
        *(f"conversation__{name}" for name in CONVERSATION),
        *(f"message__{name}" for name in MESSAGE),
        *("_held", "_others"),
    )
    return rows[:1]


@lru_cache(maxsize=4)
def _claim(values: tuple[object, ...]) -> CompiledUpdate:
    """The update that claims a run, cached for these values of the settings in its SQL."""
    return CompiledUpdate(_claimable, _claimed, returning=RUN)


def _claimable() -> QuerySet[Run]:
    same = Run.objects.filter(
        pk=Parameter("id", UUIDField()), attempt=Parameter("attempt", IntegerField())
    )
    free = Q(status=Run.Status.QUEUED) | abandoned()
    return same.filter(free, retryable(), cancel_asked=False)


def _claimed() -> dict[str, Any]:
    return {
        "status": Run.Status.RUNNING,
        "attempt": F("attempt") + 1,
        "worker": Parameter("worker", UUIDField()),
        "started_at": Now(),
        "first_token_at": None,
        "started_event_id": None,
        **new_lease(),
    }
