"""The lease keeper: the thread that renews the leases of a worker process's runs.

It renews all leases in one statement, also while a model is silent. It stops an attempt that has
lost its run.
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
from django.db import connection
from django.db.models import Case, DateTimeField, F, When

from streams.chat.leases import new_lease
from streams.chat.model_names import Kind
from streams.chat.publisher import verify
from streams.chat.worker_processes import SEEN_WITHIN, register
from streams.log.values import Watermark
from streams.models import Run

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True, eq=False)
class HeldRun:
    """A run that this process holds, with the callbacks of its attempt."""

    run: Run
    lost: Callable[[], None]  # stops the attempt
    watermark: Callable[[], Watermark]
    first_token: timedelta | None = field(default=None)  # from the claim until the first token
    called: bool = False  # it has called, or is about to call, a tool that must not be called twice


class LeaseKeeper(threading.Thread):
    """Renews the leases of this process's runs, and stops attempts that have lost their run."""

    def __init__(self, kind: Kind = Kind.MODEL) -> None:
        super().__init__(name="lease keeper", daemon=True)
        self.worker = uuid4()
        self._kind = kind
        self._held: dict[UUID, HeldRun] = {}
        self._first_token_stored: set[UUID] = set()
        self._stopped = threading.Event()

    @contextmanager
    def hold(
        self, run: Run, lost: Callable[[], None], watermark: Callable[[], Watermark]
    ) -> Iterator[HeldRun]:
        """Renew the run's lease while the context lasts.

        If another attempt has the run, or the run has ended or is to be cancelled, every check
        calls `lost`.
        """
        hold = self._held[run.id] = HeldRun(run=run, lost=lost, watermark=watermark)
        try:
            yield hold
        finally:
            if self._held.get(run.id) is hold:
                del self._held[run.id]
            self._first_token_stored.discard(run.id)

    def release_all(self, *, called: bool) -> None:
        """Stop the attempts of this process, so that each releases its run.

        With `called`, this stops also the attempts that have called a tool which must not be called
        twice. Their runs end, because they must not begin again.
        """
        for hold in list(self._held.values()):
            if called or not hold.called:
                hold.lost()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        renewed = registered = pause = 0.0
        while not self._stopped.wait(pause):
            pause = settings.LEASE_CHECK_INTERVAL
            try:
                if monotonic() - registered > SEEN_WITHIN / 4:
                    register(self.worker, self._kind)
                    registered = monotonic()
                if self._held and monotonic() - renewed > settings.RUN_LEASE / 4:
                    self._renew()
                    renewed = monotonic()
                    self._verify()
                self._check()
            except Exception:
                logger.exception("renewing and checking leases")  # the next check tries again
            finally:
                connection.close()

    def _renew(self) -> None:
        # Only runs that have an attempt here. The lease of a run whose attempt failed must expire.
        held = Run.objects.filter(pk__in=list(self._held), worker=self.worker)
        held.filter(status=Run.Status.RUNNING).update(**new_lease())

    def _verify(self) -> None:
        """Verify that the logs hold what the attempts appended, as Redis may have failed over."""
        watermarks = [hold.watermark() for hold in list(self._held.values())]
        verify([watermark for watermark in watermarks if watermark.head])

    def _check(self) -> None:
        holds = dict(self._held)
        if not holds:
            return
        mine = Run.objects.filter(worker=self.worker, status=Run.Status.RUNNING, cancel_asked=False)
        held = dict(mine.values_list("id", "attempt"))
        for id, hold in holds.items():
            if held.get(id) != hold.run.attempt:
                hold.lost()
        self._store_first_tokens([hold for id, hold in holds.items() if id in held])

    def _store_first_tokens(self, holds: list[HeldRun]) -> None:
        """Store when each run's first token came.

        One statement does it for all runs, because each statement waits for the database's lock.
        """
        seen = self._first_token_stored
        new = [h for h in holds if h.first_token is not None and h.run.id not in seen]
        seen.update(hold.run.id for hold in new)
        moments = [
            When(pk=hold.run.id, attempt=hold.run.attempt, then=F("started_at") + hold.first_token)
            for hold in new
        ]
        if moments:
            at = Case(*moments, default=F("first_token_at"), output_field=DateTimeField())
            Run.objects.filter(pk__in=[hold.run.id for hold in new]).update(first_token_at=at)
