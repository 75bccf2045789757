"""The sweep: finding unfinished work, such as runs without a worker and unpublished events.

Every web and worker process sweeps, also at the same time, so no single process is critical. A
conditional update or the log decides which process dispatches, finishes or publishes.
"""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import close_old_connections, connection
from django.db.models import Count, Max, Q
from django.db.models.functions import Now

from streams.access.token_usage import token_usage
from streams.chat.broker_queue import queue_length
from streams.chat.conversations import delete_expired
from streams.chat.dispatch import dispatch
from streams.chat.fair_share import startable_runs
from streams.chat.finish import cancel_unheld, fail, fail_after_call
from streams.chat.idempotency import expire
from streams.chat.leases import abandoned, passed, retryable
from streams.chat.model_names import Kind, kinds, of_kind, unknown
from streams.chat.publisher import publish_deletion, publish_pending, publish_title
from streams.chat.waiting_reader import ask_to_cancel
from streams.chat.waiting_runs import Waiting, waiting
from streams.log.channels import channel_of
from streams.log.errors import LogCorrupted, LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import log_of, the_log
from streams.log.sharding import broker_server, server_of
from streams.log.values import OnUnverified
from streams.models import UNPUBLISHED, Conversation, DeletedConversation, Run
from streams.observability import metrics
from streams.protocol.parts import Part

logger = logging.getLogger(__name__)
# Seconds that a run waits for a name that the settings lack. Another process may have the name, for
# example while a deploy replaces the processes one after the other.
UNKNOWN_AFTER = 600.0


class SweepPass:
    """One pass of the sweep, which skips a Redis server once it was found to be away."""

    def __init__(self) -> None:
        self.unavailable: set[int] = set()
        self._answering: set[int] = set()

    def visit(self, conversation: UUID, action: Callable[..., None], *args: object) -> None:
        """Call the action and handle its exceptions, unless the conversation's server is away."""
        server = server_of(channel_of(conversation))
        if server in self.unavailable:
            return
        try:
            action(*args)
        except LogUnverified:
            pass  # a later pass succeeds, once the running attempt has verified the log
        except LogCorrupted:
            logger.error("the log of conversation %s is corrupted", conversation)
        except (Superseded, ObjectDoesNotExist) as error:  # the run has ended or was deleted
            logger.info("conversation %s skipped: %s", conversation, type(error).__name__)
        except LogUnavailable:
            self.unavailable.add(server)

    def answers(self, conversation: UUID) -> bool:
        """Whether the conversation's server answers. If not, a run would only block a worker."""
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

    Raises `LogUnavailable` if the broker's server is away, because no run can then be dispatched.
    """
    this_pass = SweepPass()
    delete_expired()
    _publish_titles(this_pass)
    # A pass only acts on unpublished runs. If there is none, this query saves eight others.
    has_runs = Run.objects.filter(UNPUBLISHED).order_by().exists()
    if has_runs:
        ask_to_cancel()
        _publish_pending(this_pass)
        _end_abandoned(this_pass)
    if broker_server() in this_pass.unavailable:
        raise LogUnavailable
    if has_runs:
        for kind in kinds():
            _dispatch_waiting(this_pass, kind)
    expire()
    metrics.SWEEPS.inc()


def _publish_pending(this_pass: SweepPass) -> None:
    pending = UNPUBLISHED & (Q(queued_event_id=None) | ~Q(status__in=Run.ACTIVE))
    # Rows of the last second are left to the process that has written them.
    overdue = passed("created_at", 1) & (Q(ended_at=None) | passed("ended_at", 1))
    conversations = Run.objects.filter(pending & overdue).values("conversation")
    for conversation in Conversation.objects.filter(pk__in=conversations):
        this_pass.visit(conversation.id, publish_pending, conversation)


def _publish_titles(this_pass: SweepPass) -> None:
    """Publish the titles and deletions that are committed but not published yet."""
    for conversation in Conversation.objects.filter(passed("title_pending_since", 1)):
        this_pass.visit(conversation.id, publish_title, conversation)
    for deleted in DeletedConversation.objects.filter(passed("created_at", 1)):
        this_pass.visit(deleted.conversation, publish_deletion, deleted.conversation)


def _end_abandoned(this_pass: SweepPass) -> None:
    unheld = Q(status=Run.Status.QUEUED) | abandoned()
    for run in Run.active().filter(unheld, cancel_asked=True):
        this_pass.visit(run.conversation_id, cancel_unheld, run.id)
    lost = Run.active().filter(abandoned() & ~retryable()).select_related("conversation", "message")
    for run in lost:
        this_pass.visit(run.conversation_id, _give_up, run)
    gone = Run.active().filter(unheld & unknown() & passed("created_at", UNKNOWN_AFTER))
    for run in gone.select_related("conversation", "message"):
        this_pass.visit(run.conversation_id, _end_unknown, run)


def _end_unknown(run: Run) -> None:
    """Fail a run whose model or agent is gone from the settings. Raises `LogUnavailable`."""
    reason = "The model or agent that was to reply is no longer offered."
    fail(run, _published_parts(run), code="unknown_model", reason=reason)


def _give_up(run: Run) -> None:
    """Fail a run that must not be retried, with its published parts. Raises `LogUnavailable`."""
    parts = _published_parts(run)
    if run.called_at:
        fail_after_call(run, parts)
        return
    reason = "The reply was interrupted several times and could not be finished."
    fail(run, parts, code="worker_lost", reason=reason)


def _published_parts(run: Run) -> tuple[Part, ...]:
    """Seal the reply of a run without a worker; return its published parts."""
    if not run.attempt:
        return ()
    log = log_of(run.conversation_id, run.conversation.head)
    sealed = log.seal(run.id, run.attempt, on_unverified=OnUnverified.NEW_EPOCH)
    return sealed.parts


def _dispatch_waiting(this_pass: SweepPass, kind: Kind) -> None:
    """Send the tasks that this kind's queue lacks, one for each run, oldest runs first.

    Other processes may do this at the same time. The update of `dispatched_at` decides which of
    them sends a run's task. The queue's length is read before the rows. So a run that another
    process dispatches in between is no longer due. A task that a POST sends in between does not
    count as missing.
    """
    waits = Run.active().filter(waiting(), of_kind(kind))
    now = waits.aggregate(count=Count("pk"), asked_at=Max(Now()))
    if not now["count"]:
        return
    queued = queue_length(kind)
    if queued is not None and queued >= now["count"]:
        return
    startable = [run for run in startable_runs(kind) if this_pass.answers(run.conversation)]
    due = Q(dispatched_at=None) | passed("dispatched_at", settings.REDISPATCH_AFTER)
    missing = sum(not _dispatched_since(now["asked_at"], run) for run in startable) - (queued or 0)
    for run in startable if queued is not None else filter(_due_by_age, startable):
        if missing <= 0:
            return
        if Run.objects.filter(due, pk=run.id).update(dispatched_at=Now()):
            missing -= 1
            logger.info("run %s dispatched again", run.id)
            metrics.RUNS_REDISPATCHED.inc()
            dispatch(run.id, run.model)


def _dispatched_since(moment: datetime, run: Waiting) -> bool:
    """Whether the run was dispatched after the moment; a dispatch in the future does not count."""
    return run.dispatched_at is not None and moment < run.dispatched_at <= run.seen_at


def _due_by_age(run: Waiting) -> bool:
    """Whether a run may be dispatched again if the queue's length is unknown.

    It may if it has waited twice as long as at its last dispatch. So a run that waits for ten
    minutes has at most eight tasks.
    """
    if run.dispatched_at is None or run.dispatched_at > run.seen_at:
        return True
    return run.seen_at - run.dispatched_at >= run.dispatched_at - run.created_at


class Sweeper(threading.Thread):
    """Sweeps about every SWEEP_INTERVAL seconds, until `stop` or the end of the process."""

    def __init__(self) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(settings.SWEEP_INTERVAL * random.uniform(0.7, 1.3)):
            try:
                sweep()
            except LogUnavailable:
                continue  # Redis is away, so nothing can be dispatched
            except Exception:
                logger.exception("the sweep failed")
            finally:
                self._write_token_usage()
                close_old_connections()  # returns a pooled connection; SQLite's stays open
        connection.close()

    def _write_token_usage(self) -> None:
        try:
            token_usage.write()
        except Exception:
            logger.exception("writing the last use of API tokens failed")

    def stop(self) -> None:
        """End the thread after its current pass, without waiting for it."""
        self._stopped.set()
