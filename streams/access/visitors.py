"""Gives a session a visitor, and moves a visitor's data to the user who signs in."""

from typing import Any, cast
from uuid import uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest

from streams.access.authorization import VISITOR_KEY
from streams.access.sessions import SessionStore
from streams.models import Conversation, Run
from streams.service_models import IdempotencyRecord


def adopt_conversations(*, visitor: str, user: str) -> None:
    """Move the visitor's conversations, runs and idempotency records to the user, atomically."""
    with transaction.atomic():
        # If both owners have a conversation of the same name, only the user's keeps the name.
        names = Conversation.objects.filter(owner=user).exclude(client_id=None)
        taken = Q()
        for dialect, name in names.values_list("dialect", "client_id"):
            taken |= Q(dialect=dialect, client_id=name)
        moved = Conversation.objects.filter(owner=visitor)
        if taken:
            moved.filter(taken).update(client_id=None)
        moved.update(owner=user)
        Run.objects.filter(owner=visitor).update(owner=user)
        # A request repeated after sign-in must still be recognised. If both owners used the same
        # key, the user's record stays.
        used = IdempotencyRecord.objects.filter(owner=user).values("key")
        IdempotencyRecord.objects.filter(owner=visitor).exclude(key__in=used).update(owner=user)


def on_log_in(request: HttpRequest | None, user: AbstractBaseUser, **_: Any) -> None:
    """Handle Django's `user_logged_in`: move the visitor's data to the user.

    Django has given the session a new key by then, but its data is still the visitor's.
    """
    visitor = (
        request.session.pop(VISITOR_KEY, None) if request and hasattr(request, "session") else ""
    )
    if visitor:
        adopt_conversations(visitor=f"visitor:{visitor}", user=f"user:{user.pk}")


def visitor_session(request: HttpRequest) -> str:
    """The uuid of the session's visitor. A session without a visitor gets one and is stored."""
    session = cast("SessionStore", request.session)
    if VISITOR_KEY in session:
        return str(session[VISITOR_KEY])
    session.store()
    with transaction.atomic():
        # Two concurrent first requests of one session must get the same uuid.
        Session.objects.select_for_update().filter(pk=session.session_key).first()
        session[VISITOR_KEY] = type(session)(session.session_key).get(VISITOR_KEY, str(uuid4()))
        session.save()
    return str(session[VISITOR_KEY])
