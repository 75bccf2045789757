"""The data with which another client's wire begins a conversation: names, and earlier messages."""

from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

from streams.models import Conversation, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierMessage:
    """A message that the client sends as history; no run of this service wrote it."""

    role: Literal["system", "user", "assistant"]
    text: str
    client_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientNames:
    """Another client's names for the message that it sends, and for the run that answers it."""

    message: str | None = None
    run: str | None = None


UNNAMED = ClientNames()


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The dialect of a conversation, the client's name for it, and the messages that precede it.

    `hidden`: the client knows no conversations, so this one is left out of all lists.
    """

    dialect: str
    client_id: str | None = None
    hidden: bool = False
    earlier: tuple[EarlierMessage, ...] = ()

    def apply(self, conversation: Conversation) -> None:
        """Set the fields of a conversation that is not stored yet."""
        conversation.dialect = self.dialect
        conversation.client_id = self.client_id
        conversation.hidden = self.hidden

    def store_earlier(self, conversation: Conversation) -> int:
        """Store the earlier messages. Returns the next turn."""
        return store_earlier(conversation, self.earlier)


def store_earlier(
    conversation: Conversation, messages: tuple[EarlierMessage, ...], *, turn: int = 0
) -> int:
    """Store messages without runs, in the turns after `turn`. Returns the next turn."""
    last, question, stored = turn, None, []
    # All have the same creation time, so ascending ids keep their order within a turn.
    for id, message in zip(sorted(uuid4() for _ in messages), messages, strict=True):
        if message.role == "user" or (message.role == "assistant" and turn == last):
            turn += 1
        one = Message(
            id=id,
            conversation=conversation,
            role=message.role,
            content=message.text,
            client_id=message.client_id,
            turn=0 if message.role == "system" else turn,
            reply_to=question if message.role == "assistant" else None,
            event=0,  # no event announces it, so every snapshot contains it
        )
        if message.role == "user":
            question = one
        stored.append(one)
    Message.objects.bulk_create(stored)
    return turn + 1


def named(owner: str, dialect: str, client_id: str) -> Conversation | None:
    """The owner's conversation with this client's name in the dialect; None if there is none."""
    found = Conversation.objects.filter(owner=owner, dialect=dialect, client_id=client_id)
    return found.first()


def client_ids(conversation: Conversation) -> dict[str, str]:
    """The client's names of the conversation's messages, by message id."""
    rows = Message.objects.filter(conversation=conversation).exclude(client_id=None)
    return {str(id): str(name) for id, name in rows.values_list("id", "client_id")}
