"""What another client's wire says of a conversation that it begins: names, and earlier messages."""

from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

from streams.models import Conversation, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierMessage:
    """A message that the client brings along; no run of this service wrote it."""

    role: Literal["system", "user", "assistant"]
    text: str
    client_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientNames:
    """What another client calls the message that it sends, and the run that answers it."""

    message: str | None = None
    run: str | None = None


UNNAMED = ClientNames()


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The dialect of a conversation, the client's name for it, and the messages before the first.

    `hidden`: the client knows no conversations, so this one stands in no list.
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
        """Store the earlier messages. Returns the turn after theirs."""
        return store_earlier(conversation, self.earlier)


def store_earlier(
    conversation: Conversation, messages: tuple[EarlierMessage, ...], *, turn: int = 0
) -> int:
    """Store messages that no run has answered, after this turn. Returns the turn after theirs."""
    last, question, stored = turn, None, []
    # All have one time of creation, so their ids order those of one turn.
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
            event=0,  # no event tells of it, so every snapshot has it
        )
        if message.role == "user":
            question = one
        stored.append(one)
    Message.objects.bulk_create(stored)
    return turn + 1


def named(owner: str, dialect: str, client_id: str) -> Conversation | None:
    """The owner's conversation that this dialect's client calls so."""
    found = Conversation.objects.filter(owner=owner, dialect=dialect, client_id=client_id)
    return found.first()


def client_ids(conversation: Conversation) -> dict[str, str]:
    """The client's names of the conversation's messages, by our ids."""
    rows = Message.objects.filter(conversation=conversation).exclude(client_id=None)
    return {str(id): str(name) for id, name in rows.values_list("id", "client_id")}
