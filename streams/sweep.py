"""Looking for what nobody is doing: runs that no worker holds, and words that were never said.

Every web and worker process looks, and all may at once: who rings, ends or says is decided by a
conditional update or by the log. So no single process is the one that must not die.
"""

import logging
import random
import threading
from contextlib import suppress

from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import F, Q
from django.db.models.functions import Now

from streams import metrics
from streams.answers import expire
from streams.bell import ring
from streams.channels import channel_of
from streams.ending import cancel, fail
from streams.models import UNSAID, Conversation, Removal, Run, from_now
from streams.publish import finish, remove, the_log, update
from streams.verdicts import Away, Doubtful, Superseded

logger = logging.getLogger(__name__)


def sweep() -> None:
    """Do what is left undone. Raises `Away` where Redis is."""
    _say_what_is_unsaid()
    _end_what_is_over()
    _ring_what_waits()
    expire()
    metrics.SWEEPS.inc()


def _say_what_is_unsaid() -> None:
    unsaid = UNSAID & (Q(queued_event=None) | ~Q(status__in=Run.LIVE))
    # What has just been written is being said by whoever wrote it.
    late = Q(created_at__lt=from_now(-1)) & (Q(ended_at=None) | Q(ended_at__lt=from_now(-1)))
    left = Run.objects.filter(unsaid & late).values("conversation")
    for conversation in Conversation.objects.filter(pk__in=left):
        with suppress(Doubtful):  # until the attempt that knows has spoken
            finish(conversation)
    for conversation in Conversation.objects.filter(retitled_at__lt=from_now(-1)):
        with suppress(Doubtful):
            update(conversation)
    for removal in Removal.objects.filter(created_at__lt=from_now(-1)):
        remove(removal.conversation)


def _abandoned() -> Q:
    return Q(status=Run.Status.RUNNING, lease_until__lt=Now())


def _end_what_is_over() -> None:
    unheld = Q(status=Run.Status.QUEUED) | _abandoned()
    for run in Run.alive().filter(unheld, cancel_asked=True):
        cancel(run.id)
    spent = Q(attempt__gte=F("forgiven") + settings.RUN_ATTEMPTS)
    lost = Run.alive().filter(_abandoned() & spent).select_related("conversation", "message")
    for run in lost:
        try:
            channel = channel_of(run.conversation_id)
            known = run.conversation.head
            said = the_log().close(channel, run.id, run.attempt, known=known, doubt="settle")
            reason = "The reply was interrupted several times and could not be finished."
            fail(run, said.text if said else "", code="worker_lost", reason=reason)
        except (Doubtful, Superseded):
            continue  # it is another run's to say what is lost, or it has ended after all


def _ring_what_waits() -> None:
    unanswered = Q(rung_at=None) | Q(rung_at__lt=from_now(-settings.RUN_RING))
    waiting = Run.alive().filter(Q(status=Run.Status.QUEUED) | _abandoned(), unanswered)
    running = Run.alive().filter(status=Run.Status.RUNNING, lease_until__gte=Now())
    # Another of its conversation's runs is being written: this one is rung after it.
    for run in waiting.exclude(conversation__in=running.values("conversation")):
        if Run.objects.filter(unanswered, pk=run.pk).update(rung_at=Now()):
            logger.info("run %s rung again", run.id)
            metrics.RUNG.inc()
            ring(run.id)


class Sweeper(threading.Thread):
    """Sweeps every few seconds, for as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(settings.RUN_SWEEP * random.uniform(0.7, 1.3)):
            try:
                close_old_connections()
                sweep()
            except Away:
                continue  # nothing can be said, and nobody can be rung
            except Exception:
                logger.exception("sweep")
            finally:
                connection.close()

    def stop(self) -> None:
        self._stopped.set()
