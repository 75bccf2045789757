"""Which owner a session, an API token or a signed token acts for at this moment.

A request and an open stream ask the same functions. A request asks with what it just showed, an
open stream every `ACCESS_CHECK_INTERVAL` seconds with what it showed when it was opened. Each
function answers for many at once, with a fixed number of queries.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
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
from django.db.models.functions import Now
from django.utils.crypto import constant_time_compare

from streams.access.api_tokens import valid_tokens
from streams.models import Conversation

VISITOR_KEY = "visitor"  # the key of a session's data under which the visitor's uuid stands
Login = tuple[str, str]  # of a session: the authentication backend's path, and the user's id


def session_owner(data: Mapping[str, Any], user: AbstractBaseUser | None) -> str | None:
    """The owner for whom a session with this data acts; None where it acts for no owner.

    `user` is the user whom the session's backend gives for it, or None. The session holds a hash
    of the user's password, so a changed password ends it.
    """
    if SESSION_KEY in data and user and _has_password_of(data, user):
        return f"user:{user.pk}"
    if VISITOR_KEY in data and settings.ALLOW_ANONYMOUS:
        return f"visitor:{data[VISITOR_KEY]}"
    return None


def session_owners(keys: Collection[str]) -> dict[str, str]:
    """The owner of each of these sessions that exists, has not expired and acts for an owner."""
    if not keys:
        return {}
    rows = Session.objects.filter(pk__in=keys, expire_date__gt=Now())
    held = {row.session_key: row.get_decoded() for row in rows}
    users = _users({_login(data) for data in held.values() if SESSION_KEY in data})
    owners = {key: session_owner(data, users.get(_login(data))) for key, data in held.items()}
    return {key: owner for key, owner in owners.items() if owner}


def token_owners(ids: Collection[int], *, scope: str) -> dict[int, str]:
    """The owner of each of these tokens that is good and has the scope."""
    if not ids:
        return {}
    found = valid_tokens().filter(pk__in=ids).values_list("pk", "user", "scopes")
    return {pk: f"user:{user}" for pk, user, scopes in found if scope in scopes.split()}


def active_users(owners: Collection[str]) -> set[str]:
    """Those of these `user:<id>` whose user exists and may come in."""
    if not owners:
        return set()
    users = get_user_model()._default_manager.filter(is_active=True)
    found = users.filter(pk__in={owner.removeprefix("user:") for owner in owners})
    return {f"user:{pk}" for pk in found.values_list("pk", flat=True)}


def _has_password_of(data: Mapping[str, Any], user: AbstractBaseUser) -> bool:
    kept = data.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return bool(kept) and any(constant_time_compare(kept, one) for one in hashes)


def _login(data: Mapping[str, Any]) -> Login:
    return str(data.get(BACKEND_SESSION_KEY)), str(data.get(SESSION_KEY))


def _users(logins: set[Login]) -> dict[Login, AbstractBaseUser]:
    """The user of each login, as its backend knows the user now."""
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
        # An application's own backend knows its users in its own way, one at a time.
        return {id: user for id in ids if (user := backend.get_user(id))}
    rows = get_user_model()._default_manager.filter(pk__in=ids)
    named = {user._meta.pk.value_to_string(user): user for user in rows}
    return {id: user for id, user in named.items() if backend.user_can_authenticate(user)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking, and what he showed to prove it: a session's key, or a token's id."""

    owner: str
    session: str | None = None
    token: int | None = None


def read_refusals(pairs: set[tuple[Caller, UUID]]) -> dict[tuple[Caller, UUID], str]:
    """Who of these callers may not (or no longer) read, and why: `gone` or `forbidden`.

    A fixed number of queries, however many ask.
    """
    admitted = active_callers({caller for caller, _ in pairs})
    asked = {conversation for _, conversation in pairs}
    owners = dict(Conversation.objects.filter(pk__in=asked).values_list("id", "owner"))
    return {
        (caller, conversation): "forbidden" if conversation in owners else "gone"
        for caller, conversation in pairs
        if caller not in admitted or owners.get(conversation) != caller.owner
    }


def active_callers(callers: set[Caller]) -> set[Caller]:
    """Those who would be let in to read as the same owner if they showed the same proof now."""
    tokens = token_owners({c.token for c in callers if c.token is not None}, scope="read")
    sessions = session_owners({c.session for c in callers if c.session is not None})
    unproven = {c.owner for c in callers if c.token is None and c.session is None}
    users = active_users({owner for owner in unproven if is_user(owner)})

    def owner_now(caller: Caller) -> str | None:
        if caller.token is not None:
            return tokens.get(caller.token)
        if caller.session is not None:
            return sessions.get(caller.session)
        # A signed token opened the stream. Only the other application knows its external users.
        return caller.owner if not is_user(caller.owner) or caller.owner in users else None

    return {caller for caller in callers if owner_now(caller) == caller.owner}


def is_user(owner: str) -> bool:
    return owner.startswith("user:")
