"""A request of another client, compared with the stored history of its conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from streams.chat import finish
from streams.chat.idempotency import IdempotencyKey, KeyReused, forget, recall
from streams.chat.origin import EarlierMessage, named
from streams.database_time import from_now
from streams.dialects.text_input import MOST
from streams.http.problems import Problem, not_found
from streams.models import Conversation, Message, Run
from streams.protocol.ids import uuid_of
from streams.protocol.sse import clean

CHANGED = "An earlier message of this chat cannot be changed."


class SentMessage(Protocol):
    """A message as a client sends it, on any wire."""

    @property
    def id(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...


def contradiction(detail: str) -> Problem:
    return Problem(409, "history_differs", f"{detail} Load the chat's messages again.")


def check_ids(messages: Sequence[SentMessage]) -> None:
    """Raise `Problem` if two user messages have the same id, because an id must name only one."""
    ids = [one.id for one in messages if one.role == "user" and one.id]
    if len(set(ids)) < len(ids):
        raise contradiction("Two messages of the user have the same id.")


def conversation_named(owner: str, dialect: str, name: str) -> Conversation | None:
    """The owner's conversation with this client's name or this id; None if there is none."""
    if found := named(owner, dialect, clean(name)):
        return found
    id = uuid_of(name)
    return Conversation.objects.filter(pk=id, owner=owner).first() if id else None


def kept_run(key: IdempotencyKey, otherwise: str) -> UUID | None:
    """The run of an earlier request with this key; None if there is none, or it was deleted since.

    Raises `Problem`, which says `otherwise`, for a request with another text.
    """
    try:
        kept = recall(key)
    except KeyReused:
        raise contradiction(otherwise) from None
    if kept and Run.objects.filter(pk=kept["run"]).exists():
        return UUID(kept["run"])
    if kept:
        forget(key)
    return None


def stop_runs(owner: str, dialect: str, name: str) -> None:
    """Cancel the active runs of the conversation that is named so. Raises `Problem`."""
    conversation = conversation_named(owner, dialect, name)
    if conversation is None:
        raise not_found()
    for run in conversation.runs.filter(status__in=Run.ACTIVE):
        finish.cancel(run.id)


def newest_run(conversation: Conversation, *, recent: bool = False) -> Run | None:
    """The newest turn's last run; with `recent`, without runs that ended over LOG_TTL ago."""
    runs = conversation.runs.order_by("-message__turn", "-created_at")
    if recent:
        runs = runs.filter(Q(ended_at=None) | Q(ended_at__gt=from_now(-settings.LOG_TTL)))
    return runs.first()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of the question: `stored` already, or after the new messages in `earlier`."""

    stored: Message | None
    earlier: tuple[EarlierMessage, ...] = ()


def place_of(messages: Sequence[SentMessage], conversation: Conversation) -> Place:
    """Compare the user's messages with the stored ones. Raises `Problem` if they differ.

    A client may send fewer messages than are stored. Its copies of replies are not compared,
    because a client that stopped or lost its connection has half a reply. Messages between the
    stored ones and the question were refused when they were sent, and are stored as history now.
    """
    sent = [one for one in messages if one.role == "user"]
    rows = conversation.messages.filter(role=Message.Role.USER).order_by("-turn")
    stored = list(rows[: len(sent) + 1])
    names = {one.client_id or str(one.id): one for one in stored}
    known = [names.get(one.id) for one in sent]
    count = next((place for place, one in enumerate(known) if one is None), len(known))
    if any(known[count:]) or (count == 0 and len(sent) > 1):
        raise contradiction("This chat has other messages here.")
    expected = [stored[count - 1 - place] for place in range(count)] if count <= len(stored) else []
    if known[:count] != expected:
        raise contradiction("This chat has gone on elsewhere.")
    for one, row in zip(sent[:count], expected, strict=True):
        if one.text != row.content:
            raise contradiction(CHANGED)
    if count == len(sent):
        return Place(stored=expected[-1])
    if _names_any(conversation, [one.id for one in sent[count:]]):
        raise contradiction("This chat has gone on elsewhere.")
    return Place(stored=None, earlier=earlier(sent[count:-1]))


def _names_any(conversation: Conversation, names: Sequence[str]) -> bool:
    """Whether a stored message of the user has any of these ids."""
    ids = [id for name in names if (id := uuid_of(name))]
    stored = conversation.messages.filter(role=Message.Role.USER)
    return stored.filter(Q(client_id__in=names) | Q(pk__in=ids)).exists()


ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def earlier(messages: Sequence[SentMessage]) -> tuple[EarlierMessage, ...]:
    """The messages of a request that have text, in the form in which a conversation stores them.

    Raises `Problem` if there are too many.
    """
    texts = [one for one in messages if one.role in ROLES and one.text]
    if len(texts) >= MOST:
        detail = f"At most {MOST - 1} messages before the last one can be taken over."
        raise Problem(422, "invalid_request", detail)
    return tuple(
        EarlierMessage(role=ROLES[one.role], text=one.text, client_id=one.id or None)
        for one in texts
    )
