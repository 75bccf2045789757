"""Which owner a session, an API token or a signed token acts for, and which conversations it reads.

Only `may_read` decides who may read a conversation. The proof of a request (a session or a token)
is checked before it calls `readable_conversation` or `readable_run`. An open stream calls
`check_readers` every `ACCESS_CHECK_INTERVAL` seconds, which checks the proof of its request again.
`check_readers` checks many callers at once, with a fixed number of queries.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import DEFAULT_DB_ALIAS
from django.db.models import UUIDField
from django.db.models.functions import Now
from django.utils.crypto import constant_time_compare

from streams.access.api_tokens import valid_tokens
from streams.compiled_query import CompiledQuery, Parameter
from streams.models import Conversation, Run

COLUMNS = [field.attname for field in Conversation._meta.concrete_fields]
CONVERSATION = CompiledQuery(
    lambda: (
        Conversation.objects.filter(pk=Parameter("id", UUIDField()))
        .order_by()
        .values_list(*COLUMNS)
    )
)
VISITOR_KEY = "visitor"  # the key of the visitor's uuid in the session's data
Login = tuple[str, str]  # from a session: the authentication backend's path, the user's id


def session_owner(data: Mapping[str, Any], user: AbstractBaseUser | None) -> str | None:
    """The owner for which a session with this data acts, or None.

    `user` is what the session's authentication backend returns, or None. The session stores a
    hash of the user's password, so a changed password ends the session.
    """
    if SESSION_KEY in data and user and _has_password_of(data, user):
        return f"user:{user.pk}"
    if VISITOR_KEY in data and settings.ALLOW_ANONYMOUS:
        return f"visitor:{data[VISITOR_KEY]}"
    return None


def session_owners(keys: Collection[str]) -> dict[str, str]:
    """Session key → owner. Sessions that are absent, expired or without an owner are left out."""
    if not keys:
        return {}
    rows = Session.objects.filter(pk__in=keys, expire_date__gt=Now())
    stored = {row.session_key: row.get_decoded() for row in rows}
    users = _users({_login(data) for data in stored.values() if SESSION_KEY in data})
    owners = {key: session_owner(data, users.get(_login(data))) for key, data in stored.items()}
    return {key: owner for key, owner in owners.items() if owner}


def token_owners(ids: Collection[int], *, scope: str) -> dict[int, str]:
    """Token id → owner. Tokens that are not valid or lack the scope are left out."""
    if not ids:
        return {}
    found = valid_tokens().filter(pk__in=ids).values_list("pk", "user", "scopes")
    return {pk: f"user:{user}" for pk, user, scopes in found if scope in scopes.split()}


def active_users(owners: Collection[str]) -> set[str]:
    """The owners, each `user:<id>`, whose user exists and is active."""
    if not owners:
        return set()
    users = get_user_model()._default_manager.filter(is_active=True)
    found = users.filter(pk__in={owner.removeprefix("user:") for owner in owners})
    return {f"user:{pk}" for pk in found.values_list("pk", flat=True)}


def _has_password_of(data: Mapping[str, Any], user: AbstractBaseUser) -> bool:
    stored_hash = data.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return bool(stored_hash) and any(constant_time_compare(stored_hash, one) for one in hashes)


def _login(data: Mapping[str, Any]) -> Login:
    return str(data.get(BACKEND_SESSION_KEY)), str(data.get(SESSION_KEY))


def _users(logins: set[Login]) -> dict[Login, AbstractBaseUser]:
    """Login → its user, as the login's authentication backend returns the user now."""
    ids_by_backend = defaultdict(set)
    for path, id in logins:
        ids_by_backend[path].add(id)
    return {
        (path, id): user
        for path, ids in ids_by_backend.items()
        if path in settings.AUTHENTICATION_BACKENDS
        for id, user in _users_of(load_backend(path), ids).items()
    }


def _users_of(backend: Any, ids: set[str]) -> dict[str, AbstractBaseUser]:
    if getattr(type(backend), "get_user", None) is not ModelBackend.get_user:
        # A custom backend has its own `get_user`, which returns one user at a time.
        return {id: user for id in ids if (user := backend.get_user(id))}
    rows = get_user_model()._default_manager.filter(pk__in=ids)
    found = {user._meta.pk.value_to_string(user): user for user in rows}
    return {id: user for id, user in found.items() if backend.user_can_authenticate(user)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The sender of a request: its owner, and the proof, a session's key or an API token's id.

    Without both, a signed token was the proof, or the caller is a visitor who only reads.
    """

    owner: str
    session: str | None = None
    token: int | None = None


Reader = tuple[Caller, UUID]  # a caller, and the conversation that the caller reads


class Refusal(StrEnum):
    """Why an open stream must end: its caller may not read the conversation."""

    FORBIDDEN = "forbidden"
    GONE = "gone"  # the conversation does not exist


def may_read(caller: Caller, conversation: Conversation) -> bool:
    """Whether this caller, whose proof is valid, may read the conversation."""
    return conversation.owner == caller.owner


def readable_conversation(caller: Caller, id: UUID) -> Conversation:
    """The conversation. Raises `DoesNotExist`, also if the caller may not read it."""
    row = CONVERSATION.row(id=id)
    if row is None:
        raise Conversation.DoesNotExist
    found = Conversation.from_db(DEFAULT_DB_ALIAS, COLUMNS, row)
    if not may_read(caller, found):
        raise Conversation.DoesNotExist
    return found


def readable_run(caller: Caller, id: UUID) -> Run:
    """The run, with its conversation and message.

    Raises `DoesNotExist`, also if the caller may not read it.
    """
    found = Run.objects.select_related("conversation", "message").get(pk=id)
    if not may_read(caller, found.conversation):
        raise Run.DoesNotExist
    return found


def check_readers(readers: Collection[Reader]) -> dict[Reader, Conversation | Refusal]:
    """Each reader's conversation, or the reason why the reader may not read it now.

    The number of queries does not depend on the number of readers.
    """
    active = active_callers({caller for caller, _ in readers})
    found = Conversation.objects.only("owner", "head").in_bulk({id for _, id in readers})

    def check(caller: Caller, id: UUID) -> Conversation | Refusal:
        if id not in found:
            return Refusal.GONE
        permitted = caller in active and may_read(caller, found[id])
        return found[id] if permitted else Refusal.FORBIDDEN

    return {(caller, id): check(caller, id) for caller, id in readers}


def active_callers(callers: set[Caller]) -> set[Caller]:
    """The callers whose proof still permits reading as the same owner."""
    tokens = token_owners({c.token for c in callers if c.token is not None}, scope="read")
    sessions = session_owners({c.session for c in callers if c.session is not None})
    unproven = {c.owner for c in callers if c.token is None and c.session is None}
    users = active_users({owner for owner in unproven if is_user(owner)})

    def owner_now(caller: Caller) -> str | None:
        if caller.token is not None:
            return tokens.get(caller.token)
        if caller.session is not None:
            return sessions.get(caller.session)
        # A signed token opened the stream. Unspool can check its own users, but not the
        # external users of the other application.
        return caller.owner if not is_user(caller.owner) or caller.owner in users else None

    return {caller for caller in callers if owner_now(caller) == caller.owner}


def is_user(owner: str) -> bool:
    """Whether the owner is a user of this service, `user:<id>`."""
    return owner.startswith("user:")
