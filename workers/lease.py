"""Run leases: claiming a run, checking that it is still held, releasing it for another worker.

A claim is one conditional update of the run's row, by the database's clock.
"""

import logging
from enum import StrEnum
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from streams.chat.dispatch import dispatch
from streams.chat.fair_share import has_room
from streams.chat.model_names import Kind, names
from streams.chat.waiting_runs import next_without_place
from streams.models import Run
from workers.claim_rows import first_active, update_claimed
from workers.claim_turn import claim_turn

logger = logging.getLogger(__name__)


class ClaimResult(StrEnum):
    """The result of trying to claim a run."""

    CLAIMED = "claimed"
    TAKEN = "taken"  # by another worker, by another run of the conversation, or by a cancel
    FOREIGN = "foreign"  # this process lacks the run's model; the sweep finds a process that has it
    NO_ROOM = "no room"  # its owner's share is used up; `dispatched_at` is cleared


@claim_turn()
def claim(run: UUID, worker: UUID, kind: Kind = Kind.MODEL) -> Run | None:
    """Claim the run for a new attempt. Returns None if it is held, must wait, or has ended.

    A run is claimed only by a process of its kind (`streams.chat.model_names`), and never again
    once it has called a tool that must not be called twice (`called_at`).
    A run must wait while an earlier run of its conversation is active. A new run must also wait
    while its owner's share of the places is used up. For a run that must wait, `claim` clears
    `dispatched_at`, so that the next run that ends dispatches it. A run may end just before
    `dispatched_at` is cleared, and dispatch nothing. Therefore `claim` tries twice.
    """
    for _ in range(2):
        found = first_active(run)
        if found is None:
            return None
        first, is_held = found
        if first.pk == run and is_held:
            return None
        if first.pk == run:
            match _try_claim(first, worker, kind):
                case ClaimResult.CLAIMED:
                    return first
                case ClaimResult.TAKEN | ClaimResult.FOREIGN:
                    return None
                case ClaimResult.NO_ROOM:
                    pass
        elif not Run.objects.filter(pk=run, status=Run.Status.QUEUED).update(dispatched_at=None):
            return None
    return None


def claim_in_turn(worker: UUID, kind: Kind = Kind.MODEL) -> Run | None:
    """Claim the oldest new run whose owner has no other run in progress. None if there is none.

    A task whose own run has ended or must wait uses its place for such a run. So outdated tasks in
    the queue do not delay a new question.
    """
    run = next_without_place(kind)
    return claim(run, worker, kind) if run else None


def _try_claim(run: Run, worker: UUID, kind: Kind) -> ClaimResult:
    """Claim the run if it is free and its owner has room. `run` gets the row's new values."""
    if run.model not in names(kind):
        return ClaimResult.FOREIGN
    needs_room = not run.attempt  # a run that had a place and lost it continues at once
    try:
        with transaction.atomic():
            if needs_room and not has_room(run.owner, worker, kind):
                return _refuse(run)
            if not update_claimed(run, worker):
                return ClaimResult.TAKEN
    except IntegrityError:
        return ClaimResult.TAKEN
    logger.info("run %s claimed for attempt %s", run.pk, run.attempt)
    return ClaimResult.CLAIMED


def _refuse(run: Run) -> ClaimResult:
    """Clear `dispatched_at`, so that the next run that ends dispatches this one."""
    if run.dispatched_at is not None:  # even a write without effect waits for the lock
        queued = Run.objects.filter(pk=run.pk, attempt=run.attempt, status=Run.Status.QUEUED)
        queued.update(dispatched_at=None)
    return ClaimResult.NO_ROOM


def still_held(run: Run) -> bool:
    """Whether this attempt still holds the run, according to the run's row."""
    return _own(run).exists()


def mark_called(run: Run) -> bool:
    """Store that this attempt is about to call a tool which must not be called twice.

    After that the run never begins again. Returns False if the attempt has lost the run or a cancel
    was requested; then the tool must not be called.
    """
    uncancelled = _own(run).filter(cancel_asked=False)
    return bool(uncancelled.update(called_at=Coalesce(F("called_at"), Now())))


def release(run: Run, *, head: int = 0, redispatch: bool = True) -> bool:
    """Release the run for another worker. The interrupted attempt does not count.

    `head` is the highest event id in the log that the attempt knows. Without `redispatch`, the
    sweep dispatches the run once the log answers. Does nothing and returns False if the attempt has
    lost the run, or has called a tool that must not be called twice.
    """
    run.conversation.advance_head(head)
    uncalled = _own(run).filter(called_at=None)
    released = uncalled.update(
        status=Run.Status.QUEUED,
        uncounted_attempts=F("uncounted_attempts") + 1,
        worker=None,
        lease_until=None,
        lease_length=None,
        # Set even if nothing is dispatched. Otherwise the sweep would dispatch the run at once,
        # again and again while the log fails.
        dispatched_at=Now(),
    )
    if released:
        logger.info("run %s released after attempt %s", run.id, run.attempt)
        if redispatch:
            dispatch(run.id, run.model)
    return bool(released)


def _own(run: Run) -> QuerySet[Run]:
    """Select the run's row, if this attempt still holds it."""
    own = Run.objects.filter(pk=run.pk, attempt=run.attempt, worker=run.worker)
    return own.filter(status=Run.Status.RUNNING)
