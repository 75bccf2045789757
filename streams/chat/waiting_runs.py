"""Runs that wait for a worker, and whether the broker's queue has a task for each.

`dispatched_at` is the time at which a run's task was last sent. It is empty if the queue has no
task of the run, because none was sent, or a worker took the task and could not start the run.
"""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from streams.chat.dispatch import dispatch
from streams.chat.leases import abandoned, held, retryable
from streams.chat.model_names import Kind, kind_of, of_kind
from streams.models import UNPUBLISHED, Run


class Waiting(NamedTuple):
    """A run that a worker could start now."""

    id: UUID
    conversation: UUID
    owner: str
    attempt: int  # the latest one; 0 if no worker has claimed the run
    model: str
    created_at: datetime
    dispatched_at: datetime | None
    seen_at: datetime  # the time of the query, by the database's clock


def waiting() -> Q:
    """Select runs that wait for a worker, or for their turn in their conversation."""
    unheld = Q(status=Run.Status.QUEUED) | abandoned()
    return unheld & retryable() & Q(cancel_asked=False)


def busy() -> QuerySet[Run, Any]:
    """Return the ids of the conversations in which a worker holds a run."""
    return Run.active().filter(held()).order_by().values("conversation")


def in_turn(kind: Kind) -> QuerySet[Run]:
    """Return the runs of this kind that a process could start now, oldest first."""
    # A conversation's runs are created in turn order. The filter uses `ended_at`, because with
    # `status` SQLite would search the runs of all conversations.
    earlier = Run.objects.filter(UNPUBLISHED, ended_at=None).filter(
        conversation=OuterRef("conversation"), created_at__lt=OuterRef("created_at")
    )
    free = Run.active().filter(waiting(), of_kind(kind)).exclude(conversation__in=busy())
    return free.exclude(Exists(earlier)).order_by("created_at", "id")


def waiting_in_turn(kind: Kind) -> list[Waiting]:
    """Return the first active run of each conversation if it waits for this kind of process.

    The oldest is first.
    """
    rows = in_turn(kind).annotate(seen_at=Now()).values_list(*Waiting._fields)
    return [Waiting(*row) for row in rows]


def next_without_place(kind: Kind) -> UUID | None:
    """Return the oldest dispatched, never claimed run of this kind; None if there is none.

    Runs of owners that have a running run of this kind are left out.
    """
    owners = Run.active().filter(held(), of_kind(kind)).order_by().values("owner")
    new = in_turn(kind).filter(attempt=0, dispatched_at__isnull=False)
    return new.exclude(owner__in=owners).values_list("pk", flat=True).first()


def dispatch_run(run: UUID, model: str) -> None:
    """Send a task for the queued run, unless one is in the queue already."""
    unsent = Run.objects.filter(pk=run, status=Run.Status.QUEUED, dispatched_at=None)
    if unsent.update(dispatched_at=Now()):  # another process that finishes a run may have sent it
        dispatch(run, model)


def dispatch_next(conversation: UUID) -> None:
    """Dispatch the conversation's first active run, unless its cancel was requested."""
    first = Run.active().filter(conversation=conversation).first()
    if first and not first.cancel_asked:
        dispatch_run(first.pk, first.model)


def undispatched(owner: object) -> QuerySet[Run]:
    """Select the active runs of the owner that have no task in the queue."""
    return Run.active().filter(owner=owner, dispatched_at=None)


def dispatch_refused(ended: Run) -> None:
    """Dispatch the oldest run of the same owner and kind that could start now and has no task.

    It takes the place of the run that has ended.
    """
    kind = kind_of(ended.model)
    if kind is None:
        return
    refused = in_turn(kind).filter(owner=ended.owner, dispatched_at=None)
    if found := refused.values_list("pk", "model").first():
        dispatch_run(*found)
