"""Who is asking: whoever holds a token or a pass, a session's user, or the visitor that it is."""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from ninja.utils import check_csrf

from streams import passes
from streams.channels import Caller, good_tokens, is_user
from streams.models import Token
from streams.problems import Problem, unauthorized

VISITOR = "visitor"  # where a session keeps who its visitor is
NOBODY = "visitor:"  # owns nothing, ever
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
SCOPES = ("read", "write")
USED = timedelta(minutes=1)  # how closely a token's last use is known: not a write per request


def caller_of(request: HttpRequest) -> Caller:
    """Who is asking. Raises `Problem`."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _holder(request, shown.strip())
    known = request.user.is_authenticated
    if not known and not settings.ALLOW_ANONYMOUS:
        raise unauthorized(token_shown="Authorization" in request.headers)
    if request.method not in SAFE and check_csrf(request):
        # A browser sent it, and nothing shows that our page asked it to.
        detail = "Send the csrftoken cookie's value as X-CSRFToken; GET / sets the cookie."
        raise Problem(403, "csrf_failed", detail)
    if known:
        return Caller(owner=f"user:{request.user.pk}", session=request.session.session_key)
    return _visitor(request)


def welcome(request: HttpRequest) -> str:
    """Make a visitor of whoever has this session, beginning one where there is none: his name."""
    session = request.session
    if VISITOR in session:
        return str(session[VISITOR])
    if session.session_key is None:
        session.create()
    with transaction.atomic():
        # Two first requests of one session must agree on who it is.
        Session.objects.select_for_update().filter(pk=session.session_key).first()
        session[VISITOR] = type(session)(session.session_key).get(VISITOR, str(uuid4()))
        session.save()
    return str(session[VISITOR])


def issue(
    user: AbstractBaseUser, name: str, *, scopes: str, expires_at: datetime | None = None
) -> str:
    """A new token for the user. Only its digest is kept: it can be shown this once."""
    shown = f"unspool_{secrets.token_urlsafe(32)}"
    Token.objects.create(
        user_id=user.pk, name=name, digest=digest_of(shown), scopes=scopes, expires_at=expires_at
    )
    return shown


def digest_of(token: str) -> str:
    """As the database knows it. Tokens are random and long, so one round is enough."""
    return sha256(token.encode(errors="surrogateescape")).hexdigest()


def passed(request: HttpRequest, shown: str) -> Caller:
    """Whom the pass lets in. Raises `Problem`."""
    known = passes.read(shown)
    if known is None:
        raise unauthorized(token_shown=True)
    _demand(request, known.scopes)
    active = get_user_model().objects.filter(is_active=True)
    if is_user(known.owner) and not active.filter(pk=known.owner.partition(":")[2]).exists():
        raise unauthorized(token_shown=True)
    return Caller(owner=known.owner)


def _demand(request: HttpRequest, scopes: Collection[str]) -> None:
    needed = "read" if request.method in SAFE else "write"
    if needed not in scopes:
        raise Problem(403, "scope_missing", f"The token lacks the scope: {needed}.")


def _holder(request: HttpRequest, shown: str) -> Caller:
    if "." in shown:  # as in no token
        return passed(request, shown)
    token = good_tokens().filter(digest=digest_of(shown), user__is_active=True).first()
    if token is None:
        raise unauthorized(token_shown=True)
    _demand(request, token.scopes.split())
    if token.last_used_at is None or token.last_used_at < timezone.now() - USED:
        Token.objects.filter(pk=token.pk).update(last_used_at=Now())
    return Caller(owner=f"user:{token.user_id}", token=token.pk)


def _visitor(request: HttpRequest) -> Caller:
    # Who only looks, and never was here, is not worth a row: he sees nothing, and leaves nothing.
    if request.method in SAFE and VISITOR not in request.session:
        return Caller(owner=NOBODY)
    visitor = welcome(request)
    return Caller(owner=f"visitor:{visitor}", session=request.session.session_key)
