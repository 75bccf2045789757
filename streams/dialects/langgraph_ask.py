"""How a request of LangGraph's SDKs becomes a run."""

from uuid import UUID

from django.db import IntegrityError

from streams.chat import ask
from streams.chat.idempotency import IdempotencyKey
from streams.chat.model_names import kind_of
from streams.chat.origin import ClientNames, Origin
from streams.dialects.history import contradiction, earlier, kept_run, newest_run
from streams.dialects.langgraph_request import InputMessage, RunRequest, invalid, place_in
from streams.dialects.langgraph_threads import (
    DIALECT,
    Thread,
    find,
    release,
    require_uuid,
    state_json,
)
from streams.http.problems import not_found
from streams.models import Conversation

SENT_BEFORE = "A message of this id was sent before, with another text."


def run_in_hidden_thread(owner: str, body: RunRequest) -> UUID:
    """Begin a run in a new thread, hidden unless `on_completion` is `keep`. Raises `Problem`."""
    messages = body.check()
    _check_checkpoint(body, None)
    hidden = body.on_completion == "delete"
    return _begin(owner, body, messages, None, None, hidden=hidden).run


def run_in_thread(owner: str, name: str, body: RunRequest) -> UUID:
    """The run that answers: a new run, or the run of an earlier request with this message id.

    Raises `Problem`.
    """
    messages = body.check()
    try:
        return _run(owner, name, body, messages)
    except IntegrityError:  # another request has begun the conversation meanwhile
        return _run(owner, name, body, messages)


def _run(owner: str, name: str, body: RunRequest, messages: list[InputMessage]) -> UUID:
    thread = find(owner, name)
    if thread is None:
        if body.if_not_exists == "reject":
            raise not_found()
        require_uuid(name)
    key = body.key(owner, thread.name if thread else name, messages[-1])
    if key and (kept := kept_run(key, SENT_BEFORE)):
        return kept
    _check_checkpoint(body, thread)
    if thread is None or thread.conversation is None:
        queued = _begin(owner, body, messages, name, key)
        release(owner, name)
        return queued.run
    return _ask(thread.conversation, body, messages, key)


def _check_checkpoint(body: RunRequest, thread: Thread | None) -> None:
    """Raise `Problem` if the request continues from a state that is not the latest one."""
    if body.from_checkpoint is None:
        return
    latest = state_json(thread)["checkpoint"] if thread else None
    if not latest or latest["checkpoint_id"] != body.from_checkpoint:
        raise invalid("A thread goes on from its latest checkpoint alone: it has no branches.")


def _begin(
    owner: str,
    body: RunRequest,
    messages: list[InputMessage],
    name: str | None,
    key: IdempotencyKey | None,
    *,
    hidden: bool = False,
) -> ask.QueuedRun:
    *before, asked = messages
    for message in before:
        message.check()
    return ask.begin(
        owner=owner,
        text=asked.text,
        # LangGraph's names of graphs are not known here; an unknown name gives the default model.
        model=body.assistant_id if kind_of(body.assistant_id) else None,
        metadata=body.metadata,
        key=key,
        origin=Origin(dialect=DIALECT, client_id=name, hidden=hidden, earlier=earlier(before)),
        names=ClientNames(message=asked.id or None),
    )


def _ask(
    conversation: Conversation,
    body: RunRequest,
    messages: list[InputMessage],
    key: IdempotencyKey | None,
) -> UUID:
    if kind_of(body.assistant_id) and body.assistant_id != conversation.model:
        raise contradiction(f"This thread was begun with {conversation.model}.")
    place = place_in(messages, conversation)
    if place.stored:
        run = newest_run(conversation)
        if run is None or run.message_id != place.stored.id:
            raise contradiction("This message was never answered.")
        return run.id
    queued = ask.ask(
        conversation,
        messages[-1].text,
        when_busy=body.when_busy,
        metadata=body.metadata,
        key=key,
        names=ClientNames(message=messages[-1].id or None),
        earlier=place.earlier,
    )
    return queued.run
