"""All personal data of one owner: exported row by row, or deleted permanently."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from django.contrib.admin.models import LogEntry
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now

from streams.access.authorization import VISITOR_KEY
from streams.access.owners import OwnerKind, parse_owner
from streams.chat.conversations import delete
from streams.log.channels import channel_of
from streams.log.event_log import log_of, the_log
from streams.log.sharding import server_of
from streams.models import Conversation, Message, Run
from streams.protocol.parts import part_json
from streams.service_models import ApiToken, IdempotencyRecord

Row = dict[str, Any]
# The exported columns of each model. tests/integration/test_export.py names those that are not.
EXPORTED: dict[type[Model], tuple[str, ...]] = {
    Conversation: ("id", "title", "model", "dialect", "client_id", "hidden", "created_at"),
    Message: (
        *("id", "conversation", "role", "content", "parts", "client_id", "turn", "reply_to"),
        "created_at",
    ),
    Run: (
        *("id", "conversation", "message", "reply", "model", "metadata", "client_id", "status"),
        *("attempt", "cancel_asked", "called_at"),
        *("finish_reason", "code", "reason", "input_tokens", "output_tokens", "total_tokens"),
        *("estimated", "created_at", "started_at", "first_token_at", "ended_at"),
    ),
    IdempotencyRecord: ("route", "key", "body", "created_at"),
    ApiToken: ("id", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"),
    EmailAddress: ("id", "email", "verified", "primary"),
    LogEntry: ("id", "action_time", "action_flag", "object_repr", "change_message"),
    Session: ("expire_date",),
}
SECRETS = {"password"}  # columns left out of a user; a custom user model may have any others
PAGE = 500  # rows or events read at once


class UnknownOwner(Exception):
    """The user does not exist, or the text is no valid owner."""


def owner_named(user: str | None, owner: str | None) -> str:
    """Return the owner of this user name, or this `owner` if it is valid. Raises `UnknownOwner`."""
    if bool(user) == bool(owner):
        raise UnknownOwner("Name a user, or an --owner such as visitor:<uuid>.")
    if owner:
        try:
            return str(parse_owner(owner))
        except ValueError:
            expected = "user:<id>, visitor:<uuid> or external:<id>"
            raise UnknownOwner(f"{owner} is no owner. Write {expected}.") from None
    users = get_user_model()
    try:
        return f"user:{users.objects.get_by_natural_key(user).pk}"
    except users.DoesNotExist:
        raise UnknownOwner(f"There is no user {user}.") from None


def export_rows(owner: str) -> Iterator[Row]:
    """Yield all stored data of the owner, row by row, without secrets and their digests.

    The rows of the database come first, then each conversation's data in Redis.
    Raises `LogUnavailable` if Redis does not answer.
    """
    yield from _user_rows(owner)
    yield from _rows("email", EmailAddress.objects.filter(user__in=_user(owner)))
    yield from _rows("token", ApiToken.objects.filter(user__in=_user(owner)))
    for session in _sessions(owner):
        yield {"kind": "session", "expire_date": session.expire_date}
    yield from _rows("admin_log", _admin_log(owner))
    yield from _rows("conversation", Conversation.objects.filter(owner=owner))
    of_owner = {"conversation__owner": owner}
    yield from _rows("message", Message.objects.filter(**of_owner))
    yield from _rows("run", Run.objects.filter(**of_owner))
    yield from _rows("answer", IdempotencyRecord.objects.filter(owner=owner))
    for conversation in Conversation.objects.filter(owner=owner).order_by("pk").iterator(PAGE):
        yield from _replies_so_far(conversation)
        yield from _events(conversation.id)


def erase(owner: str) -> int:
    """Delete all data of the owner, and the user. Returns the number of deleted conversations."""
    # Lock the user out first, so that no new conversation is created meanwhile.
    _user(owner).update(is_active=False)
    ApiToken.objects.filter(user__in=_user(owner), revoked_at=None).update(revoked_at=Now())
    for session in _sessions(owner):
        session.delete()
    count = 0
    while page := list(Conversation.objects.filter(owner=owner)[:100]):
        for conversation in page:
            delete(conversation)
        count += len(page)
    IdempotencyRecord.objects.filter(owner=owner).delete()
    _admin_log(owner).delete()
    _user(owner).delete()
    return count


def _user(owner: str) -> "QuerySet[Any]":
    users = get_user_model()._default_manager
    parsed = parse_owner(owner)
    return users.filter(pk=parsed.name) if parsed.kind is OwnerKind.USER else users.none()


def _user_rows(owner: str) -> Iterator[Row]:
    for user in _user(owner):
        columns = {f.attname: f.value_from_object(user) for f in user._meta.concrete_fields}
        groups = [group.name for group in user.groups.order_by("pk")]
        exported = {name: value for name, value in columns.items() if name not in SECRETS}
        yield {"kind": "user", **exported, "groups": groups}


def _admin_log(owner: str) -> "QuerySet[LogEntry]":
    """The admin site's log entries by the user, and the entries about the user's rows."""
    users = list(_user(owner).values_list("pk", flat=True))
    tokens = [
        str(pk) for pk in ApiToken.objects.filter(user__in=users).values_list("pk", flat=True)
    ]
    user_type = ContentType.objects.get_for_model(get_user_model())
    of_user = Q(content_type=user_type, object_id__in=[str(pk) for pk in users])
    of_token = Q(content_type=ContentType.objects.get_for_model(ApiToken), object_id__in=tokens)
    return LogEntry.objects.filter(Q(user__in=users) | of_user | of_token)


def _sessions(owner: str) -> Iterator[Session]:
    kind, _, name = owner.partition(":")
    if kind not in (OwnerKind.USER, OwnerKind.VISITOR):
        return  # an external owner has no session
    session_key = SESSION_KEY if kind == OwnerKind.USER else VISITOR_KEY
    for session in Session.objects.iterator():
        if str(session.get_decoded().get(session_key)) == name:
            yield session


def _rows(kind: str, rows: "QuerySet[Any]") -> Iterator[Row]:
    for row in rows.order_by("pk").values(*EXPORTED[rows.model]).iterator(PAGE):
        yield {"kind": kind, **row}


def _replies_so_far(conversation: Conversation) -> Iterator[Row]:
    """The replies of active runs, which only the log holds until a run ends.

    Raises `LogUnavailable`.
    """
    active = set(Run.active().filter(conversation=conversation).values_list("pk", flat=True))
    if not active:
        return
    state = log_of(conversation.id, conversation.head).state()
    if state is None:
        return  # the log has lost them
    for id in sorted(active & state.runs.keys()):
        run = state.runs[id]
        parts = [part_json(part) for part in run.parts]
        so_far = {"text": run.text, "reasoning": run.reasoning, "parts": parts}
        yield {"kind": "reply_so_far", "run": id, **so_far}


def _events(conversation: UUID) -> Iterator[Row]:
    """The events that the log still holds. Raises `LogUnavailable`."""
    channel, after = channel_of(conversation), "-"
    while True:
        command = ("XRANGE", f"{{{channel}}}:events", after, "+", "COUNT", str(PAGE))
        page = the_log().ask_server(server_of(channel), *command)
        for id, event in page:
            yield {
                "kind": "event",
                "conversation": conversation,
                "id": int(id.partition("-")[0]),
                "type": event["type"],
                "data": event["data"],
            }
        if len(page) < PAGE:
            return
        after = f"({page[-1][0]}"
