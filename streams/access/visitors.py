"""What a visitor made becomes the user's as whom the visitor signs in."""

from typing import Any, cast
from uuid import uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest

from streams.access.authorization import VISITOR_KEY
from streams.access.sessions import SessionStore
from streams.models import Conversation, IdempotencyRecord, Run


def adopt_conversations(*, visitor: str, user: str) -> None:
    """Give all that one owner has to the other, in one transaction."""
    with transaction.atomic():
        Conversation.objects.filter(owner=visitor).update(owner=user)
        Run.objects.filter(owner=visitor).update(owner=user)
        # So that a request sent again after signing in is still known. The user's own keys stay.
        used = IdempotencyRecord.objects.filter(owner=user).values("key")
        IdempotencyRecord.objects.filter(owner=visitor).exclude(key__in=used).update(owner=user)


def on_log_in(request: HttpRequest | None, user: AbstractBaseUser, **_: Any) -> None:
    """Receives `user_logged_in`; the session is still the visitor's, under another key."""
    visitor = (
        request.session.pop(VISITOR_KEY, None) if request and hasattr(request, "session") else ""
    )
    if visitor:
        adopt_conversations(visitor=f"visitor:{visitor}", user=f"user:{user.pk}")


def visitor_session(request: HttpRequest) -> str:
    """Make a visitor of this session, which is stored where it was not yet. Gives its uuid."""
    session = cast("SessionStore", request.session)
    if VISITOR_KEY in session:
        return str(session[VISITOR_KEY])
    session.store()
    with transaction.atomic():
        # Two first requests of one session must agree on who it is.
        Session.objects.select_for_update().filter(pk=session.session_key).first()
        session[VISITOR_KEY] = type(session)(session.session_key).get(VISITOR_KEY, str(uuid4()))
        session.save()
    return str(session[VISITOR_KEY])
