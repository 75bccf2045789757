"""Whose a run is: claiming it, keeping it, handing it on.

A claim is one conditional update of the run's row, by the database's clock. One thread for each
worker process renews all its leases in one statement, also while a model is silent, and tells an
attempt when its run is no longer its own.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from streams.chat.dispatch import dispatch
from streams.chat.fair_share import has_room
from streams.chat.leases import abandoned, held, new_lease
from streams.chat.publisher import verify
from streams.chat.waiting_runs import next_without_place
from streams.log.values import Watermark
from streams.models import Run, retryable

logger = logging.getLogger(__name__)


def claim(run: UUID, worker: UUID) -> Run | None:
    """Take the run for a new attempt, unless it is another worker's, not its turn, or over.

    A new run is refused while its owner has its share of the places. A run that is refused or not
    in turn is noted as not dispatched, and what ends then dispatches it. An end between the look
    and the note finds nothing noted, therefore the second look.
    """
    for _ in range(2):
        live = Run.active().filter(conversation__runs=run)  # the others wait for their turn
        seen = live.annotate(held=ExpressionWrapper(held(), BooleanField())).first()
        if seen is None or (seen.pk == run and seen.held):
            return None
        if seen.pk == run:
            taken = _take(seen, worker)
            if taken is not None:
                return _claimed(seen, worker) if taken else None
        elif not Run.objects.filter(pk=run, status=Run.Status.QUEUED).update(dispatched_at=None):
            return None
    return None


def claim_in_turn(worker: UUID) -> Run | None:
    """Take the oldest new run of an owner for whom no worker writes.

    A task whose run cannot be begun gives its place away: a new question waits for no task of runs
    that are over or have to wait.
    """
    run = next_without_place()
    return claim(run, worker) if run else None


def _take(seen: Run, worker: UUID) -> bool | None:
    """Whether the run was taken; None where its owner has no room, which is noted."""
    same = Run.objects.filter(pk=seen.pk, attempt=seen.attempt)
    free = Q(status=Run.Status.QUEUED) | abandoned()
    try:
        with transaction.atomic():
            # A run that had a place and lost it goes on at once.
            if not seen.attempt and not has_room(seen.owner, worker):
                same.filter(status=Run.Status.QUEUED).update(dispatched_at=None)
                return None
            taken = same.filter(free, retryable(), cancel_asked=False).update(
                status=Run.Status.RUNNING,
                attempt=F("attempt") + 1,
                worker=worker,
                started_at=Now(),
                first_token_at=None,
                started_event_id=None,
                **new_lease(),
            )
    except IntegrityError:
        return False  # another run of its conversation is running
    return bool(taken)  # else another worker got there first, or somebody said stop


def _claimed(seen: Run, worker: UUID) -> Run | None:
    logger.info("run %s claimed for attempt %s", seen.pk, seen.attempt + 1)
    claimed = Run.objects.select_related("conversation", "message").get(pk=seen.pk)
    # Whoever let it go before its start was noted knew no more than whoever vanished.
    unstarted = seen.attempt > 0 and seen.started_event_id is None
    claimed.abandoned = unstarted or seen.status == Run.Status.RUNNING
    return claimed if claimed.worker == worker else None


def still_held(run: Run) -> bool:
    """Whether the run's row still says that this attempt is the one."""
    held = Run.objects.filter(pk=run.pk, attempt=run.attempt, worker=run.worker)
    return held.filter(status=Run.Status.RUNNING).exists()


def release(run: Run, *, head: int = 0, redispatch: bool = True) -> None:
    """Give the run to whoever is there: what cut this attempt short does not count against it.

    `known` is the highest event id that the attempt knows to have been said. Where it does not
    ring, the sweep does once the log answers.
    """
    run.conversation.advance_head(head)
    given = Run.objects.filter(
        pk=run.pk, attempt=run.attempt, worker=run.worker, status=Run.Status.RUNNING
    ).update(
        status=Run.Status.QUEUED,
        uncounted_attempts=F("uncounted_attempts") + 1,
        worker=None,
        lease_until=None,
        lease_length=None,
        # Also where nobody is: a log that refuses all would be asked ever faster.
        dispatched_at=Now(),
    )
    if given:
        logger.info("run %s handed over after attempt %s", run.id, run.attempt)
        if redispatch:
            dispatch(run.id)


@dataclass(kw_only=True, slots=True, eq=False)
class HeldRun:
    """A run that this process holds, and what is to be done when it does no longer."""

    run: Run
    lost: Callable[[], None]
    watermark: Callable[[], Watermark]
    first_token: timedelta | None = field(default=None)  # from the claim until the first token


class LeaseKeeper(threading.Thread):
    """Renews the leases of all that this process holds, and looks whether it still holds it."""

    def __init__(self) -> None:
        super().__init__(name="lease keeper", daemon=True)
        self.worker = uuid4()
        self._held: dict[UUID, HeldRun] = {}
        self._noted: set[UUID] = set()
        self._stopped = threading.Event()

    @contextmanager
    def hold(
        self, run: Run, lost: Callable[[], None], reach: Callable[[], Watermark]
    ) -> Iterator[HeldRun]:
        """Keep the run's lease; `lost` is called, again and again, once it is another's."""
        hold = self._held[run.id] = HeldRun(run=run, lost=lost, watermark=reach)
        try:
            yield hold
        finally:
            if self._held.get(run.id) is hold:
                del self._held[run.id]
            self._noted.discard(run.id)

    def release_all(self) -> None:
        """Stop every attempt: the process ends, and another goes on with its runs."""
        for hold in list(self._held.values()):
            hold.lost()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        renewed = 0.0
        while not self._stopped.wait(settings.LEASE_CHECK_INTERVAL):
            try:
                if self._held and monotonic() - renewed > settings.RUN_LEASE / 4:
                    self._renew()
                    renewed = monotonic()
                    self._verify()
                self._check()
            except Exception:
                logger.exception("looking after leases")  # the next look may find a database
            finally:
                connection.close()

    def _renew(self) -> None:
        # What was claimed here and let go of, by whatever accident, is to be another's.
        held = Run.objects.filter(pk__in=list(self._held), worker=self.worker)
        held.filter(status=Run.Status.RUNNING).update(**new_lease())

    def _verify(self) -> None:
        """Tell a Redis that may be another one by now how far each reply has come."""
        reached = [hold.watermark() for hold in list(self._held.values())]
        verify([reach for reach in reached if reach.head])

    def _check(self) -> None:
        holds = dict(self._held)
        if not holds:
            return
        mine = Run.objects.filter(worker=self.worker, status=Run.Status.RUNNING, cancel_asked=False)
        held = dict(mine.values_list("id", "attempt"))
        for id, hold in holds.items():
            if held.get(id) != hold.run.attempt:
                hold.lost()
            elif hold.first_token is not None and id not in self._noted:
                self._noted.add(id)
                Run.objects.filter(pk=id, attempt=hold.run.attempt).update(
                    first_token_at=F("started_at") + hold.first_token
                )
