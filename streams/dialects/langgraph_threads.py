"""LangGraph's threads: an owner's conversations, and reserved names of threads without a message.

A client creates a thread before its first message, but a conversation begins with a message. Until
then the thread is a name that its owner has reserved, for `IDEMPOTENCY_TTL` seconds.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson
from django.db.models import Q

from streams.chat.final_events import final_event_of
from streams.chat.idempotency import IdempotencyKey, forget, keep_as_used
from streams.chat.message_view import parts_of
from streams.chat.origin import client_ids
from streams.chat.snapshot import message_page
from streams.dialects.history import conversation_named, newest_run
from streams.dialects.langgraph import LangGraphWire, ThreadBefore
from streams.dialects.langgraph_messages import Json, plain_message, reply_messages
from streams.http.problems import Problem, not_found
from streams.models import Conversation, Run
from streams.protocol.events import MessageView
from streams.protocol.ids import uuid_of
from streams.service_models import IdempotencyRecord

DIALECT = LangGraphWire.dialect
ROUTE = "POST /threads"
MOST_RESERVED = 1000  # names that an owner may have reserved at once
TYPES = {"user": "human", "assistant": "ai", "system": "system"}
STATUS = {
    Run.Status.QUEUED: "pending",
    Run.Status.RUNNING: "running",
    Run.Status.COMPLETED: "success",
    Run.Status.CANCELLED: "interrupted",
    Run.Status.FAILED: "error",
}


@dataclass(frozen=True, kw_only=True)
class Thread:
    """A thread of an owner. `conversation` is None before its first message."""

    name: str
    created_at: datetime
    conversation: Conversation | None = None


def name_of(conversation: Conversation) -> str:
    """The thread's id: the id that the client has chosen, or the conversation's own."""
    own = conversation.dialect == DIALECT and conversation.client_id
    return own or str(conversation.id)


def find(owner: str, name: str) -> Thread | None:
    """The owner's thread or conversation with this id; None if there is none."""
    if uuid_of(name) is None:
        return None
    if conversation := conversation_named(owner, DIALECT, name):
        return Thread(
            name=name_of(conversation),
            created_at=conversation.created_at,
            conversation=conversation,
        )
    reserved = IdempotencyRecord.objects.filter(owner=owner, route=ROUTE, key=name).first()
    return Thread(name=name, created_at=reserved.created_at) if reserved else None


def found(owner: str, name: str) -> Thread:
    """Like `find`, but raises `Problem` if there is none."""
    thread = find(owner, name)
    if thread is None:
        raise not_found()
    return thread


def reserve(owner: str, name: str) -> Thread:
    """Reserve the name for a thread. Raises `Problem`, or `TooManyRepeats`."""
    require_uuid(name)
    if IdempotencyRecord.objects.filter(owner=owner, route=ROUTE).count() >= MOST_RESERVED:
        detail = "You have made too many threads without a message."
        raise Problem(429, "too_many_threads", detail, headers={"Retry-After": "60"})
    keep_as_used(_key(owner, name))
    return found(owner, name)


def release(owner: str, name: str) -> None:
    """End the reservation of the name, because the conversation exists now."""
    forget(_key(owner, name))


def require_uuid(name: str) -> None:
    """Raise `Problem` if a thread's id is not a UUID in its canonical form."""
    if uuid_of(name) is None:
        raise Problem(422, "invalid_request", "A thread's id is a UUID, in lower case.")


def thread_before(run: Run) -> ThreadBefore:
    """The thread up to the message that the run answers."""
    conversation, question = run.conversation, run.message
    is_behind = False
    if run.is_active and not run.attempt:
        # Query the active runs before the messages. Otherwise a run that ends between the two
        # queries would be missing from both.
        others = conversation.runs.filter(status__in=Run.ACTIVE, created_at__lte=run.created_at)
        is_behind = others.exclude(pk=run.pk).exists()
    chosen = Q(turn__lt=question.turn) | Q(pk=question.pk)
    messages = _messages(conversation, chosen)
    return ThreadBefore(thread=name_of(conversation), messages=messages, is_behind=is_behind)


def values_of(run: Run) -> Json:
    """The thread's state after the end of this run. It has `__error__` if the run has failed."""
    before = thread_before(run)
    ending = final_event_of(run)
    reply = reply_messages(run.id, run.attempt, parts_of(run.reply), ending)
    failed = {"__error__": failure(run)} if run.status == Run.Status.FAILED else {}
    return {"messages": [*before.messages, *reply], **failed}


def failure(run: Run) -> Json:
    return {"error": run.code, "message": run.reason}


def state_json(thread: Thread) -> Json:
    """The thread's state now. It contains complete messages only."""
    conversation = thread.conversation
    messages = _messages(conversation) if conversation else ()
    newest = newest_run(conversation) if conversation else None
    checkpoint = {"thread_id": thread.name, "checkpoint_ns": "", "checkpoint_map": None}
    tasks = []
    if newest and newest.status == Run.Status.FAILED:
        error = orjson.dumps(failure(newest)).decode()
        task = {"id": str(newest.id), "name": "agent", "error": error, "interrupts": []}
        tasks = [{**task, "checkpoint": None, "state": None, "result": None}]
    return {
        "values": {"messages": messages} if messages else {},
        "next": [],
        "tasks": tasks,
        "metadata": {"run_id": str(newest.id)} if newest else {},
        "created_at": _changed_at(thread, newest),
        "checkpoint": {**checkpoint, "checkpoint_id": messages[-1]["id"]} if messages else None,
        "parent_checkpoint": None,
        "interrupts": [],
    }


def thread_json(thread: Thread) -> Json:
    conversation = thread.conversation
    newest = newest_run(conversation) if conversation else None
    status = "error" if newest and newest.status == Run.Status.FAILED else "idle"
    if conversation and conversation.runs.filter(status__in=Run.ACTIVE).exists():
        status = "busy"
    return {
        "thread_id": thread.name,
        "created_at": thread.created_at,
        "updated_at": _changed_at(thread, newest),
        "metadata": {},
        "status": status,
        "values": state_json(thread)["values"],
        "interrupts": {},
    }


def run_json(run: Run) -> Json:
    return {
        "run_id": run.id,
        "thread_id": name_of(run.conversation),
        "assistant_id": run.model,
        "created_at": run.created_at,
        "updated_at": run.ended_at or run.started_at or run.created_at,
        "status": STATUS[Run.Status(run.status)],
        "metadata": run.metadata or {},
        "multitask_strategy": "enqueue",
    }


def _messages(conversation: Conversation, chosen: Q | None = None) -> tuple[Json, ...]:
    """The newest messages, at most one page. If a message has several replies, only the last."""
    page, _ = message_page(conversation, chosen)
    names = client_ids(conversation)
    runs = Run.objects.in_bulk([one.run for one in page if one.run])
    latest = {one.reply_to: one for one in page if one.run}
    shown: list[Json] = []
    for one in page:
        if one.run is None:
            name = names.get(str(one.id), str(one.id))
            shown.append(plain_message(TYPES[one.role], name, one.content))
        elif latest[one.reply_to] is one and (run := runs.get(one.run)):
            shown += _reply(one, run)
    return tuple(shown)


def _reply(message: MessageView, run: Run) -> list[Json]:
    return reply_messages(run.id, run.attempt, message.parts, final_event_of(run))


def _changed_at(thread: Thread, newest: Run | None) -> datetime:
    return (newest and (newest.ended_at or newest.created_at)) or thread.created_at


def _key(owner: str, name: str) -> IdempotencyKey:
    return IdempotencyKey(owner=owner, route=ROUTE, key=name, digest="")
