"""Looking for what nobody is doing: runs that no worker holds, and words that were never said.

Every web and worker process looks, and all may at once: who rings, ends or says is decided by a
conditional update or by the log. So no single process is the one that must not die.
"""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.db.models import Count, Max, Q
from django.db.models.functions import Now

from streams import metrics
from streams.answers import expire
from streams.bell import ring
from streams.broker_queue import queue_length
from streams.channels import channel_of
from streams.ending import end_cancelled, fail
from streams.fair_share import startable
from streams.leases import abandoned, passed
from streams.models import UNSAID, Conversation, Removal, Run, unspent
from streams.publish import finish, remove, the_log, update
from streams.servers import rings_server, server_of
from streams.token_usage import token_usage
from streams.verdicts import Away, Doubtful, Spoilt, Superseded
from streams.waiting_runs import Waiting, waiting

logger = logging.getLogger(__name__)


class Round:
    """One look, which asks a Redis server no more once it was found away."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self._there: set[int] = set()

    def visit(self, conversation: UUID, do: Callable[..., None], *given: object) -> None:
        """Do it, unless the conversation's server is away."""
        server = server_of(channel_of(conversation))
        if server in self.away:
            return
        try:
            do(*given)
        except Doubtful:
            pass  # until its attempt has said how far it had come
        except Spoilt:
            logger.error("the log of conversation %s is spoilt", conversation)
        except (Superseded, ObjectDoesNotExist) as error:  # it has ended, or was deleted
            logger.info("conversation %s passed over: %s", conversation, type(error).__name__)
        except Away:
            self.away.add(server)

    def answers(self, conversation: UUID) -> bool:
        """Whether its server does: else a run would keep a worker's place in vain."""
        server = server_of(channel_of(conversation))
        if server not in self.away | self._there:
            try:
                the_log().ask(server, "PING")
                self._there.add(server)
            except Away:
                self.away.add(server)
        return server in self._there


def sweep() -> None:
    """Do what is left undone, wherever Redis answers. Raises `Away` where nobody can be rung."""
    look = Round()
    _say_what_is_unsaid(look)
    _end_what_is_over(look)
    if rings_server() in look.away:
        raise Away
    _ring_what_waits(look)
    expire()
    metrics.SWEEPS.inc()


def _say_what_is_unsaid(look: Round) -> None:
    unsaid = UNSAID & (Q(queued_event=None) | ~Q(status__in=Run.LIVE))
    # What has just been written is being said by whoever wrote it.
    late = passed("created_at", 1) & (Q(ended_at=None) | passed("ended_at", 1))
    left = Run.objects.filter(unsaid & late).values("conversation")
    for conversation in Conversation.objects.filter(pk__in=left):
        look.visit(conversation.id, finish, conversation)
    for conversation in Conversation.objects.filter(passed("retitled_at", 1)):
        look.visit(conversation.id, update, conversation)
    for removal in Removal.objects.filter(passed("created_at", 1)):
        look.visit(removal.conversation, remove, removal.conversation)


def _end_what_is_over(look: Round) -> None:
    unheld = Q(status=Run.Status.QUEUED) | abandoned()
    for run in Run.alive().filter(unheld, cancel_asked=True):
        look.visit(run.conversation_id, end_cancelled, run.id)
    lost = Run.alive().filter(abandoned() & ~unspent()).select_related("conversation", "message")
    for run in lost:
        look.visit(run.conversation_id, _give_up, run)


def _give_up(run: Run) -> None:
    """End a run that was lost too often, with what was said of it. Raises `Away`."""
    channel, known = channel_of(run.conversation_id), run.conversation.head
    reason = "The reply was interrupted several times and could not be finished."
    said = the_log().close(channel, run.id, run.attempt, known=known, doubt="settle")
    fail(run, said.text if said else "", code="worker_lost", reason=reason)


def _ring_what_waits(look: Round) -> None:
    """Send as many tasks as are missing: those of the oldest runs, one a run.

    Other processes may do so at the same time. The update of `rung_at` decides which of them sends
    a run's task. The queue is asked before the rows are read: tasks that another process sends in
    between are of runs that are no longer due. Tasks that POSTs send in between are not missing.
    """
    now = Run.alive().filter(waiting()).aggregate(count=Count("pk"), asked_at=Max(Now()))
    if not now["count"]:
        return
    queued = queue_length()
    if queued is not None and queued >= now["count"]:
        return
    able = [run for run in startable() if look.answers(run.conversation)]
    due = Q(rung_at=None) | passed("rung_at", settings.RUN_RING)
    missing = sum(not _dispatched_since(now["asked_at"], run) for run in able) - (queued or 0)
    for run in able if queued is not None else filter(_due_by_age, able):
        if missing <= 0:
            return
        if Run.objects.filter(due, pk=run.id).update(rung_at=Now()):
            missing -= 1
            logger.info("run %s rung again", run.id)
            metrics.RUNG.inc()
            ring(run.id)


def _dispatched_since(moment: datetime, run: Waiting) -> bool:
    """By the database's clock; a dispatch that lies ahead of it was before it was set back."""
    return run.dispatched_at is not None and moment < run.dispatched_at <= run.seen_at


def _due_by_age(run: Waiting) -> bool:
    """Whether a run may be dispatched again where the queue's length is unknown.

    It has waited twice as long as at its last dispatch: a run that waits for ten minutes has
    eight tasks at most.
    """
    if run.dispatched_at is None or run.dispatched_at > run.seen_at:
        return True
    return run.seen_at - run.dispatched_at >= run.dispatched_at - run.created_at


class Sweeper(threading.Thread):
    """Sweeps every few seconds, for as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(settings.RUN_SWEEP * random.uniform(0.7, 1.3)):
            try:
                sweep()
            except Away:
                continue  # nothing can be said, and nobody can be rung
            except Exception:
                logger.exception("sweep")
            finally:
                self._write_token_usage()
                connection.close()

    def _write_token_usage(self) -> None:
        try:
            token_usage.write()
        except Exception:
            logger.exception("writing when tokens were last used")

    def stop(self) -> None:
        self._stopped.set()
