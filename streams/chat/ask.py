"""Asking: a message and the run that will answer it, committed together.

    ask() ── one transaction: Message + Run(queued) (+ the answer to an Idempotency-Key)
      └── on commit: announce (message.created, run.queued), ring a worker

Nothing after the commit may fail the request: whatever is left undone, the sweep does.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connection, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.urls import reverse

from streams.chat.dispatch import dispatch
from streams.chat.finish import cancel_unbegun, cancel_unheld
from streams.chat.idempotency import IdempotencyKey, keep, recall
from streams.chat.publisher import SAID_AT_ONCE, publish_pending
from streams.chat.redis_memory import head_for_a_run
from streams.chat.titles import title_of
from streams.chat.waiting_runs import dispatch_next
from streams.log.errors import LogUnavailable, LogUnverified, Superseded
from streams.models import Conversation, Message, Run, from_now

logger = logging.getLogger(__name__)
WhenBusy = Literal["reject", "queue", "interrupt"]


class ConversationBusy(Exception):
    """The conversation has a live run, and the caller did not say what to do about it."""


class NotLastTurn(Exception):
    """Only the last turn can be answered anew: later ones were built on this one's reply."""


class UnknownModel(Exception):
    """The operator does not offer this model."""


class ActiveRunLimit(Exception):
    """The owner has as many live runs as he may."""


class RateLimited(Exception):
    """The owner has begun as many runs within the last minute as he may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A run was accepted. `events` follows from `cursor`, which is null while Redis is away."""

    conversation: UUID
    message: UUID
    run: UUID
    status: Literal["queued"]
    cursor: int | None
    events: str


def begin(
    *,
    owner: str,
    text: str,
    system: str | None = None,
    model: str | None = None,
    title: str | None = None,
    key: IdempotencyKey | None = None,
) -> Accepted:
    """Begin a conversation with its first message.

    Raises `UnknownModel`, `ActiveRunLimit`, `RedisFull`.
    """
    conversation = Conversation(
        id=uuid4(),
        owner=owner,
        title=title or title_of(text),
        model=check_model(model or settings.LLM_MODEL),
    )

    def make() -> Run:
        conversation.save(force_insert=True)
        if system:
            conversation.messages.create(role=Message.Role.SYSTEM, content=system, turn=0)
        return _question(conversation, text, turn=1)

    return _accept(conversation, make, key)


def ask(
    conversation: Conversation,
    text: str,
    *,
    when_busy: WhenBusy = "reject",
    key: IdempotencyKey | None = None,
) -> Accepted:
    """Add a message to an existing conversation, and a run that answers it.

    Raises `ConversationBusy`, `ActiveRunLimit`, `RateLimited`, `RedisFull`, and what `recall` does.
    """

    def make() -> Run:
        _take_turn(conversation, when_busy)
        return _question(conversation, text, turn=_last_turn(conversation) + 1)

    return _accept(conversation, make, key, interrupts=when_busy == "interrupt")


def retry(
    run: Run, *, when_busy: WhenBusy = "reject", key: IdempotencyKey | None = None
) -> Accepted:
    """Create a new run for the same user message.

    Raises `NotLastTurn`, `ConversationBusy`, `ActiveRunLimit`, `RateLimited`, `RedisFull`, and what
    `recall` does.
    """

    def make() -> Run:
        if run.message.turn != _last_turn(run.conversation):
            raise NotLastTurn
        _take_turn(run.conversation, when_busy)
        return _run(run.conversation, run.message)

    return _accept(run.conversation, make, key, interrupts=when_busy == "interrupt")


def check_model(model: str) -> str:
    if model not in settings.LLM_MODELS:
        raise UnknownModel(model)
    return model


def _accept(
    conversation: Conversation,
    create_run: Callable[[], Run],
    key: IdempotencyKey | None,
    *,
    interrupts: bool = False,
) -> Accepted:
    if key:
        recall(key)
    check_limits(
        conversation, interrupts
    )  # and again below; but who is refused here leaves nothing behind
    # Looked up before the commit: whatever this run will ever say comes after it.
    cursor = head_for_a_run(conversation)
    with transaction.atomic():
        lock_owner(conversation)
        if key:
            recall(key)
        check_limits(conversation, interrupts)
        run = create_run()
        in_turn = not Run.active().filter(conversation=conversation).exists()
        if in_turn and cursor is not None:
            run.dispatched_at = Now()  # as good as: if nobody comes, the sweep rings again
        run.save(force_insert=True)
        accepted = Accepted(
            conversation=conversation.id,
            message=run.message_id,
            run=run.id,
            status="queued",
            cursor=cursor,
            events=_events(conversation, cursor),
        )
        if key:
            keep(key, 202, accepted)
    logger.info("run %s queued in conversation %s", run.id, conversation.id)
    if cursor is not None:
        try:
            _publish(conversation, interrupts)
            if run.dispatched_at:
                dispatch(run.id)
            else:
                dispatch_next(conversation.id)  # what it waits for may have ended meanwhile
        except (LogUnavailable, Superseded, ObjectDoesNotExist, DatabaseError) as error:
            # The sweep will; or there is nothing to tell, because it was deleted meanwhile.
            logger.warning("run %s not told: %s", run.id, type(error).__name__)
    return accepted


def _events(conversation: Conversation, cursor: int | None) -> str:
    path = reverse("unspool:events", kwargs={"conversation": conversation.id})
    return path if cursor is None else f"{path}?lastEventId={cursor}"


def _publish(conversation: Conversation, interrupts: bool) -> None:
    if interrupts:
        begun = Run.active().filter(conversation=conversation, cancel_asked=True)
        for earlier in begun[:SAID_AT_ONCE]:
            with suppress(LogUnverified):  # its attempt ends it, or the sweep
                cancel_unheld(earlier.id)
    # What is left is said by the worker before the run's start, or by the sweep.
    publish_pending(conversation, most=SAID_AT_ONCE)


def lock_owner(conversation: Conversation) -> None:
    """Let an owner's requests pass one by one: none comes between a key's `recall` and `keep`."""
    if connection.vendor == "postgresql":  # SQLite has one writer anyway
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [conversation.owner]
            )


def check_limits(conversation: Conversation, interrupts: bool) -> None:
    owner = conversation.owner
    live = Run.active().filter(owner=owner)
    if interrupts:
        live = live.exclude(conversation=conversation)  # those end
    if live.count() >= settings.MAX_LIVE_RUNS:
        raise ActiveRunLimit
    if (
        Run.objects.filter(owner=owner, created_at__gt=from_now(-60)).count()
        >= settings.MAX_RUNS_PER_MINUTE
    ):
        raise RateLimited


def _take_turn(conversation: Conversation, when_busy: WhenBusy) -> None:
    Conversation.objects.select_for_update().get(pk=conversation.pk)
    live = conversation.runs.filter(status__in=Run.ACTIVE)
    match when_busy:
        case "reject":
            if live.exists():
                raise ConversationBusy
        case "interrupt":
            # In the transaction of what is asked instead: at no moment is nothing live.
            cancel_unbegun(conversation)
            live.update(cancel_asked=True)
        case "queue":
            pass  # its turn is after theirs


def _last_turn(conversation: Conversation) -> int:
    return int(conversation.messages.aggregate(last=Max("turn", default=0))["last"])


def _question(conversation: Conversation, text: str, *, turn: int) -> Run:
    message = conversation.messages.create(role=Message.Role.USER, content=text, turn=turn)
    return _run(conversation, message)


def _run(conversation: Conversation, message: Message) -> Run:
    return Run(
        conversation=conversation,
        owner=conversation.owner,
        message=message,
        # The operator may have changed his offer since this conversation began.
        model=conversation.model
        if conversation.model in settings.LLM_MODELS
        else settings.LLM_MODEL,
    )
