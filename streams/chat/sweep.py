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

from streams.access.token_usage import token_usage
from streams.chat.broker_queue import queue_length
from streams.chat.dispatch import dispatch
from streams.chat.fair_share import startable_runs
from streams.chat.finish import cancel_unheld, fail
from streams.chat.idempotency import expire
from streams.chat.leases import abandoned, passed
from streams.chat.publisher import publish_deletion, publish_pending, publish_title
from streams.chat.waiting_runs import Waiting, waiting
from streams.log.channels import channel_of
from streams.log.errors import LogCorrupted, LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import the_log
from streams.log.sharding import broker_server, server_of
from streams.models import UNPUBLISHED, Conversation, DeletedConversation, Run, retryable
from streams.observability import metrics

logger = logging.getLogger(__name__)


class SweepPass:
    """One look, which asks a Redis server no more once it was found away."""

    def __init__(self) -> None:
        self.unavailable: set[int] = set()
        self._answering: set[int] = set()

    def visit(self, conversation: UUID, do: Callable[..., None], *given: object) -> None:
        """Do it, unless the conversation's server is away."""
        server = server_of(channel_of(conversation))
        if server in self.unavailable:
            return
        try:
            do(*given)
        except LogUnverified:
            pass  # until its attempt has said how far it had come
        except LogCorrupted:
            logger.error("the log of conversation %s is spoilt", conversation)
        except (Superseded, ObjectDoesNotExist) as error:  # it has ended, or was deleted
            logger.info("conversation %s passed over: %s", conversation, type(error).__name__)
        except LogUnavailable:
            self.unavailable.add(server)

    def answers(self, conversation: UUID) -> bool:
        """Whether its server does: else a run would keep a worker's place in vain."""
        server = server_of(channel_of(conversation))
        if server not in self.unavailable | self._answering:
            try:
                the_log().ask_server(server, "PING")
                self._answering.add(server)
            except LogUnavailable:
                self.unavailable.add(server)
        return server in self._answering


def sweep() -> None:
    """Do all unfinished work, on each Redis server that answers.

    Raises `LogUnavailable` where the broker's server is away, so that no run can be dispatched.
    """
    look = SweepPass()
    _publish_pending(look)
    _end_abandoned(look)
    if broker_server() in look.unavailable:
        raise LogUnavailable
    _dispatch_waiting(look)
    expire()
    metrics.SWEEPS.inc()


def _publish_pending(look: SweepPass) -> None:
    unsaid = UNPUBLISHED & (Q(queued_event_id=None) | ~Q(status__in=Run.ACTIVE))
    # What has just been written is being said by whoever wrote it.
    late = passed("created_at", 1) & (Q(ended_at=None) | passed("ended_at", 1))
    left = Run.objects.filter(unsaid & late).values("conversation")
    for conversation in Conversation.objects.filter(pk__in=left):
        look.visit(conversation.id, publish_pending, conversation)
    for conversation in Conversation.objects.filter(passed("title_pending_since", 1)):
        look.visit(conversation.id, publish_title, conversation)
    for removal in DeletedConversation.objects.filter(passed("created_at", 1)):
        look.visit(removal.conversation, publish_deletion, removal.conversation)


def _end_abandoned(look: SweepPass) -> None:
    unheld = Q(status=Run.Status.QUEUED) | abandoned()
    for run in Run.active().filter(unheld, cancel_asked=True):
        look.visit(run.conversation_id, cancel_unheld, run.id)
    lost = Run.active().filter(abandoned() & ~retryable()).select_related("conversation", "message")
    for run in lost:
        look.visit(run.conversation_id, _give_up, run)


def _give_up(run: Run) -> None:
    """End a run that was lost too often, with what was said of it. Raises `LogUnavailable`."""
    channel, known = channel_of(run.conversation_id), run.conversation.head
    reason = "The reply was interrupted several times and could not be finished."
    said = the_log().seal(channel, run.id, run.attempt, min_head=known, doubt="settle")
    fail(run, said.text if said else "", code="worker_lost", reason=reason)


def _dispatch_waiting(look: SweepPass) -> None:
    """Send as many tasks as are missing: those of the oldest runs, one a run.

    Other processes may do so at the same time. The update of `dispatched_at` decides which of them
    sends a run's task. The queue is asked before the rows are read: tasks that another process
    sends in between are of runs that are no longer due.
    Tasks that POSTs send in between are not missing.
    """
    now = Run.active().filter(waiting()).aggregate(count=Count("pk"), asked_at=Max(Now()))
    if not now["count"]:
        return
    queued = queue_length()
    if queued is not None and queued >= now["count"]:
        return
    able = [run for run in startable_runs() if look.answers(run.conversation)]
    due = Q(dispatched_at=None) | passed("dispatched_at", settings.REDISPATCH_AFTER)
    missing = sum(not _dispatched_since(now["asked_at"], run) for run in able) - (queued or 0)
    for run in able if queued is not None else filter(_due_by_age, able):
        if missing <= 0:
            return
        if Run.objects.filter(due, pk=run.id).update(dispatched_at=Now()):
            missing -= 1
            logger.info("run %s rung again", run.id)
            metrics.RUNS_REDISPATCHED.inc()
            dispatch(run.id)


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
        while not self._stopped.wait(settings.SWEEP_INTERVAL * random.uniform(0.7, 1.3)):
            try:
                sweep()
            except LogUnavailable:
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
