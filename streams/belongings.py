"""All that one owner has: told as values, or deleted for good."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from streams.callers import VISITOR
from streams.channels import is_user
from streams.keeping import delete
from streams.models import Answer, Conversation, Message, Run, Token

Told = dict[str, Any]
CONVERSATION = ("id", "title", "model", "created_at")
MESSAGE = ("id", "conversation", "role", "content", "turn", "reply_to", "created_at")
RUN = (
    *("id", "conversation", "message", "reply", "model", "status", "finish_reason", "code"),
    *("input_tokens", "output_tokens", "created_at", "started_at", "first_token_at", "ended_at"),
)
TOKEN = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
USER = ("id", "username", "email", "first_name", "last_name", "date_joined", "last_login")


class Unnamed(Exception):
    """Nobody is named so."""


def owner_named(user: str | None, owner: str | None) -> str:
    """The owner: a user by his name, or anybody as rows name him. Raises `Unnamed`."""
    if bool(user) == bool(owner):
        raise Unnamed("Name a user, or an --owner such as visitor:<uuid>.")
    if owner:
        return owner
    users = get_user_model()
    try:
        return f"user:{users.objects.get_by_natural_key(user).pk}"
    except users.DoesNotExist:
        raise Unnamed(f"There is no user {user}.") from None


def told(owner: str) -> Iterator[Told]:
    """Everything that is kept of the owner, row by row, but for secrets' digests."""
    yield from _rows("user", _user(owner), USER)
    yield from _rows("token", Token.objects.filter(user__in=_user(owner)), TOKEN)
    yield from _rows("conversation", Conversation.objects.filter(owner=owner), CONVERSATION)
    theirs = {"conversation__owner": owner}
    yield from _rows("message", Message.objects.filter(**theirs), MESSAGE)
    yield from _rows("run", Run.objects.filter(**theirs), RUN)
    kept = Answer.objects.filter(owner=owner)
    yield from _rows("answer", kept, ("route", "key", "created_at"))


def forget(owner: str) -> int:
    """Delete all that the owner has, and the user; gives how many conversations there were."""
    # First, so that nothing new is begun meanwhile.
    _user(owner).update(is_active=False)
    Token.objects.filter(user__in=_user(owner), revoked_at=None).update(revoked_at=Now())
    _end_sessions(owner)
    count = 0
    while found := list(Conversation.objects.filter(owner=owner)[:100]):
        for conversation in found:
            delete(conversation)
        count += len(found)
    Answer.objects.filter(owner=owner).delete()
    _user(owner).delete()
    return count


def _user(owner: str) -> "QuerySet[Any]":
    pk = owner.partition(":")[2]
    users = get_user_model()._default_manager
    return users.filter(pk=pk) if is_user(owner) and pk.isdigit() else users.none()


def _end_sessions(owner: str) -> None:
    kind, _, name = owner.partition(":")
    if kind not in ("user", "visitor"):
        return  # another application's, who comes with a pass and has none
    named = SESSION_KEY if kind == "user" else VISITOR
    store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")()
    for session in Session.objects.iterator():
        if str(store.decode(session.session_data).get(named)) == name:
            session.delete()


def _rows(kind: str, found: "QuerySet[Any]", fields: tuple[str, ...]) -> Iterator[Told]:
    for row in found.order_by("pk").values(*fields).iterator(500):
        yield {"kind": kind, **row}
