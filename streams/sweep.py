"""Looking for what nobody is doing: runs that no worker holds, and words that were never said.

Every web and worker process looks, and all may at once: who rings, ends or says is decided by a
conditional update or by the log. So no single process is the one that must not die.
"""

import logging
import random
import threading
from collections.abc import Callable
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from streams import metrics
from streams.answers import expire
from streams.bell import ring
from streams.channels import channel_of
from streams.ending import end_cancelled, fail
from streams.models import UNSAID, Conversation, Removal, Run, from_now, unspent
from streams.publish import finish, remove, the_log, update
from streams.servers import rings_server, server_of
from streams.token_usage import token_usage
from streams.verdicts import Away, Doubtful, Spoilt, Superseded

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
    late = Q(created_at__lt=from_now(-1)) & (Q(ended_at=None) | Q(ended_at__lt=from_now(-1)))
    left = Run.objects.filter(unsaid & late).values("conversation")
    for conversation in Conversation.objects.filter(pk__in=left):
        look.visit(conversation.id, finish, conversation)
    for conversation in Conversation.objects.filter(retitled_at__lt=from_now(-1)):
        look.visit(conversation.id, update, conversation)
    for removal in Removal.objects.filter(created_at__lt=from_now(-1)):
        look.visit(removal.conversation, remove, removal.conversation)


def _abandoned() -> Q:
    return Q(status=Run.Status.RUNNING, lease_until__lt=Now())


def _end_what_is_over(look: Round) -> None:
    unheld = Q(status=Run.Status.QUEUED) | _abandoned()
    for run in Run.alive().filter(unheld, cancel_asked=True):
        look.visit(run.conversation_id, end_cancelled, run.id)
    lost = Run.alive().filter(_abandoned() & ~unspent()).select_related("conversation", "message")
    for run in lost:
        look.visit(run.conversation_id, _give_up, run)


def _give_up(run: Run) -> None:
    """End a run that was lost too often, with what was said of it. Raises `Away`."""
    channel, known = channel_of(run.conversation_id), run.conversation.head
    reason = "The reply was interrupted several times and could not be finished."
    said = the_log().close(channel, run.id, run.attempt, known=known, doubt="settle")
    fail(run, said.text if said else "", code="worker_lost", reason=reason)


def _ring_what_waits(look: Round) -> None:
    unanswered = Q(rung_at=None) | Q(rung_at__lt=from_now(-settings.RUN_RING))
    waiting = Run.alive().filter(Q(status=Run.Status.QUEUED) | _abandoned(), unanswered)
    running = Run.alive().filter(status=Run.Status.RUNNING, lease_until__gte=Now())
    # Another of its conversation's runs is being written: this one is rung after it.
    for run in waiting.exclude(conversation__in=running.values("conversation")):
        if not look.answers(run.conversation_id):
            continue
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
