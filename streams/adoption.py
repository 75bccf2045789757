"""What a visitor made becomes the user's as whom the visitor signs in."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest

from streams.authorization import VISITOR
from streams.models import Answer, Conversation, Run


def adopt(*, visitor: str, user: str) -> None:
    """Give all that one owner has to the other, in one transaction."""
    with transaction.atomic():
        Conversation.objects.filter(owner=visitor).update(owner=user)
        Run.objects.filter(owner=visitor).update(owner=user)
        # So that a request sent again after signing in is still known. The user's own keys stay.
        used = Answer.objects.filter(owner=user).values("key")
        Answer.objects.filter(owner=visitor).exclude(key__in=used).update(owner=user)


def at_log_in(request: HttpRequest | None, user: AbstractBaseUser, **_: Any) -> None:
    """Receives `user_logged_in`; the session is still the visitor's, under another key."""
    visitor = request.session.pop(VISITOR, None) if request and hasattr(request, "session") else ""
    if visitor:
        adopt(visitor=f"visitor:{visitor}", user=f"user:{user.pk}")
