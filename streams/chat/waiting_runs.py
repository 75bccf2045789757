"""Runs that wait for a worker, and of which of them a task is in the broker's queue.

`dispatched_at` is when a task of the run was last sent; it is empty where none is in the queue:
none was sent, or a worker took it and could not begin the run.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from streams.chat.dispatch import dispatch
from streams.chat.leases import abandoned, held
from streams.models import UNPUBLISHED, Run, retryable


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A run that a worker could begin now."""

    id: UUID
    conversation: UUID
    owner: str
    begun: bool  # by an attempt before
    created_at: datetime
    dispatched_at: datetime | None
    seen_at: datetime  # by the database's clock


def waiting() -> Q:
    """Runs that wait for a worker, or for their turn in their conversation."""
    free = Q(status=Run.Status.QUEUED) | abandoned()
    return free & retryable() & Q(cancel_asked=False)


def busy() -> QuerySet[Run, Any]:
    """The conversations in which a worker writes."""
    return Run.active().filter(held()).order_by().values("conversation")


def in_turn() -> QuerySet[Run]:
    """Runs that a worker could begin now, oldest first."""
    # A conversation's runs are made in turn order. Asked by `ended_at`, since SQLite would look
    # for those of a status through all conversations.
    earlier = Run.objects.filter(UNPUBLISHED, ended_at=None).filter(
        conversation=OuterRef("conversation"), created_at__lt=OuterRef("created_at")
    )
    able = Run.active().filter(waiting()).exclude(conversation__in=busy())
    return able.exclude(Exists(earlier)).order_by("created_at", "id")


def waiting_in_turn() -> list[Waiting]:
    """The first live run of each conversation, if it waits for a worker. Oldest first."""
    rows = (
        in_turn()
        .annotate(seen_at=Now())
        .values(
            *("pk", "conversation", "owner", "attempt", "created_at", "dispatched_at", "seen_at")
        )
    )
    return [
        Waiting(
            id=row["pk"],
            conversation=row["conversation"],
            owner=row["owner"],
            begun=bool(row["attempt"]),
            created_at=row["created_at"],
            dispatched_at=row["dispatched_at"],
            seen_at=row["seen_at"],
        )
        for row in rows
    ]


def next_without_place() -> UUID | None:
    """The oldest dispatched run, never begun, of an owner for whom no worker writes."""
    owners = Run.active().filter(held()).order_by().values("owner")
    new = in_turn().filter(attempt=0, dispatched_at__isnull=False)
    return new.exclude(owner__in=owners).values_list("pk", flat=True).first()


def dispatch_run(run: UUID) -> None:
    """Send a task of this run, unless one was sent and no worker has taken it."""
    unsent = Run.objects.filter(pk=run, status=Run.Status.QUEUED, dispatched_at=None)
    if unsent.update(dispatched_at=Now()):  # who else ends a run at this moment may have sent it
        dispatch(run)


def dispatch_next(conversation: UUID) -> None:
    """Dispatch the run whose turn it is in this conversation."""
    first = Run.active().filter(conversation=conversation).first()
    if first and not first.cancel_asked:
        dispatch_run(first.pk)


def dispatch_refused(owner: str) -> None:
    """Dispatch the owner's oldest run that could begin and of which no task is in the queue."""
    refused = in_turn().filter(owner=owner, dispatched_at=None).values_list("pk", flat=True).first()
    if refused:
        dispatch_run(refused)
