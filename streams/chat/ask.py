"""Accepting a message: the message and the run that will answer it are committed together.

    begin(), ask(), retry()
      ├── one transaction: Message + Run(queued) (+ their ids, kept under an Idempotency-Key)
      └── after the commit: publish message.created and run.queued, dispatch the run

A failure after the commit does not fail the request, because the sweep does the missing steps.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from streams.chat import new_rows
from streams.chat.dispatch import dispatch
from streams.chat.errors import ConversationBusy, NotLastTurn
from streams.chat.finish import cancel_unheld
from streams.chat.idempotency import IdempotencyKey, keep, recall
from streams.chat.limits import check_limits
from streams.chat.model_names import check_model
from streams.chat.origin import UNNAMED, ClientNames, EarlierMessage, Origin, store_earlier
from streams.chat.owner_lock import OwnerWork, lock_owner
from streams.chat.publisher import RUNS_PER_REQUEST, publish_pending
from streams.chat.redis_memory import head_for_a_run
from streams.chat.titles import title_of
from streams.chat.turns import NewRun, Turns, lock_turns
from streams.chat.waiting_runs import dispatch_next
from streams.log.errors import LogUnavailable, LogUnverified, Superseded
from streams.models import Conversation, Message, Run

logger = logging.getLogger(__name__)
WhenBusy = Literal["reject", "queue", "interrupt"]
Metadata = dict[str, Any]  # JSON that the request brings for the agent


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedRun:
    """The ids of a committed message and of the run that will answer it.

    `cursor` is an event id before the run's first event; None while Redis is away. `repeated`: an
    earlier request with the same idempotency key has created both.
    """

    conversation: UUID
    message: UUID
    run: UUID
    cursor: int | None
    repeated: bool = False


def begin(
    *,
    owner: str,
    text: str,
    system: str | None = None,
    model: str | None = None,
    title: str | None = None,
    metadata: Metadata | None = None,
    key: IdempotencyKey | None = None,
    origin: Origin | None = None,
    names: ClientNames = UNNAMED,
) -> QueuedRun:
    """Create a conversation with its first message, and a run that answers it.

    `origin` and `names` come from another client's wire. Raises `UnknownModel`, `ActiveRunLimit`,
    `RateLimited`, `RedisFull`, the exceptions of `recall`, and `IntegrityError` if the client's
    name for the conversation is taken.
    """
    conversation = Conversation(
        id=uuid4(),
        owner=owner,
        title=title or title_of(text),
        model=check_model(model or settings.LLM_MODEL),
    )
    if origin:
        origin.apply(conversation)

    def make() -> NewRun:
        new_rows.CONVERSATIONS.insert(conversation)
        if system:
            conversation.messages.create(role=Message.Role.SYSTEM, content=system, turn=0)
        turn = origin.store_earlier(conversation) if origin else 1
        run = _question(conversation, text, metadata, turn, names)
        return NewRun(run=run, asks_anew=True, before=Turns())

    return _accept(conversation, make, key)


def ask(
    conversation: Conversation,
    text: str,
    *,
    when_busy: WhenBusy = "reject",
    metadata: Metadata | None = None,
    key: IdempotencyKey | None = None,
    names: ClientNames = UNNAMED,
    earlier: tuple[EarlierMessage, ...] = (),
) -> QueuedRun:
    """Add a message to an existing conversation, and a run that answers it.

    The `earlier` messages are stored before it, without runs.

    Raises `UnknownModel`, `ConversationBusy`, `ActiveRunLimit`, `RateLimited`, `RedisFull`, the
    exceptions of `recall`, and `IntegrityError` if the client's name for the run is taken.
    """

    def make() -> NewRun:
        turns = lock_turns(conversation, interrupts=when_busy == "interrupt")
        _refuse_busy(turns, when_busy)
        turn = store_earlier(conversation, earlier, turn=turns.last)
        run = _question(conversation, text, metadata, turn, names)
        return NewRun(run=run, asks_anew=True, before=turns)

    return _accept(conversation, make, key, interrupts=when_busy == "interrupt")


def retry(
    run: Run,
    *,
    when_busy: WhenBusy = "reject",
    key: IdempotencyKey | None = None,
    names: ClientNames = UNNAMED,
) -> QueuedRun:
    """Create a new run for the same user message, with the same metadata.

    Raises `UnknownModel`, `NotLastTurn`, `ConversationBusy`, `ActiveRunLimit`, `RateLimited`,
    `RedisFull`, and the exceptions of `recall`.
    """

    def make() -> NewRun:
        turns = lock_turns(run.conversation, interrupts=when_busy == "interrupt")
        if run.message.turn != turns.last:
            raise NotLastTurn
        _refuse_busy(turns, when_busy)
        again = _run(run.conversation, run.message, run.metadata, names)
        return NewRun(run=again, asks_anew=False, before=turns)

    return _accept(run.conversation, make, key, interrupts=when_busy == "interrupt")


def _accept(
    conversation: Conversation,
    create_run: Callable[[], NewRun],
    key: IdempotencyKey | None,
    *,
    interrupts: bool = False,
) -> QueuedRun:
    if key and (earlier := _recall(key)):
        return earlier
    # The limits are checked again under the lock. A request that is refused here writes nothing.
    check_limits(conversation, interrupts=interrupts)
    # Read before the commit, so that every event of this run comes after the cursor.
    cursor = head_for_a_run(conversation)
    with transaction.atomic():
        lock_owner(conversation.owner, OwnerWork.REQUEST)
        if key and (earlier := _recall(key)):
            return earlier
        check_limits(conversation, interrupts=interrupts)
        new = create_run()
        run = new.run
        if not new.before.active and cursor is not None:
            # Set before the task is sent. If the task is lost, the sweep dispatches the run again.
            run.dispatched_at = Now()
        new_rows.RUNS.insert(run)
        queued = QueuedRun(
            conversation=conversation.id, message=run.message_id, run=run.id, cursor=cursor
        )
        if key:
            keep(key, queued)
    logger.info("run %s queued in conversation %s", run.id, conversation.id)
    if cursor is not None:
        try:
            _publish(new, conversation, interrupts)
            if run.dispatched_at:
                dispatch(run.id, run.model)
            else:
                dispatch_next(conversation.id)  # the earlier run may have ended meanwhile
        except (LogUnavailable, Superseded, ObjectDoesNotExist, DatabaseError) as error:
            # The sweep publishes and dispatches later, unless the conversation was deleted.
            logger.warning("run %s not published: %s", run.id, type(error).__name__)
    return queued


def _recall(key: IdempotencyKey) -> QueuedRun | None:
    kept = recall(key)
    if kept is None:
        return None
    ids = {name: UUID(kept[name]) for name in ("conversation", "message", "run")}
    return QueuedRun(**ids, cursor=kept["cursor"], repeated=True)


def _publish(new: NewRun, conversation: Conversation, interrupts: bool) -> None:
    if interrupts:
        interrupted = Run.active().filter(conversation=conversation, cancel_asked=True)
        for earlier in interrupted[:RUNS_PER_REQUEST]:
            with suppress(LogUnverified):  # the run's own attempt or the sweep ends it
                cancel_unheld(earlier.id)
    # The events of further runs are published by a worker before run.started, or by the sweep.
    alone = new.run if new.alone else None
    publish_pending(conversation, most=RUNS_PER_REQUEST, alone=alone)


def _refuse_busy(turns: Turns, when_busy: WhenBusy) -> None:
    if when_busy == "reject" and turns.active:
        raise ConversationBusy


def _question(
    conversation: Conversation,
    text: str,
    metadata: Metadata | None,
    turn: int,
    names: ClientNames,
) -> Run:
    message = Message(
        conversation=conversation,
        role=Message.Role.USER,
        content=text,
        turn=turn,
        client_id=names.message,
    )
    new_rows.MESSAGES.insert(message)
    return _run(conversation, message, metadata, names)


def _run(
    conversation: Conversation, message: Message, metadata: Metadata | None, names: ClientNames
) -> Run:
    return Run(
        conversation=conversation,
        owner=conversation.owner,
        message=message,
        # If the settings no longer have the conversation's model, the request is refused, because
        # another model or agent must not answer instead.
        model=check_model(conversation.model),
        metadata=metadata,
        client_id=names.run,
    )
