"""Who is asking: the holder of a token or a pass, a session's user, or its visitor."""

import secrets
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import cast
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest
from ninja.utils import check_csrf

from streams import passes
from streams.authorization import VISITOR, good_tokens, session_owner
from streams.channels import Caller, still_in
from streams.models import Token
from streams.problems import Problem, unauthorized
from streams.sessions import SessionStore
from streams.token_usage import token_usage

NOBODY = "visitor:"  # owns nothing, ever
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
SCOPES = ("read", "write")


def caller_of(request: HttpRequest) -> Caller:
    """Who is asking. Raises `Problem`."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _holder(request, shown.strip())
    user = request.user if request.user.is_authenticated else None
    owner = session_owner(request.session, user)
    if owner is None and not settings.ALLOW_ANONYMOUS:
        raise unauthorized(token_shown="Authorization" in request.headers)
    if request.method not in SAFE and check_csrf(request):
        # A browser sent it, and nothing shows that our page asked it to.
        detail = "Send the csrftoken cookie's value as X-CSRFToken; GET / sets the cookie."
        raise Problem(403, "csrf_failed", detail)
    if owner is None:
        if request.method in SAFE:
            # A visitor who only looks is not stored: nothing is shown, and nothing kept.
            return Caller(owner=NOBODY)
        owner = f"visitor:{welcome(request)}"
    return Caller(owner=owner, session=request.session.session_key)


def welcome(request: HttpRequest) -> str:
    """Make a visitor of this session, which is stored where it was not yet. Gives its uuid."""
    session = cast("SessionStore", request.session)
    if VISITOR in session:
        return str(session[VISITOR])
    session.store()
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
    caller = Caller(owner=str(known.owner))
    if not still_in({caller}):
        raise unauthorized(token_shown=True)
    return caller


def _demand(request: HttpRequest, scopes: Collection[str]) -> None:
    needed = "read" if request.method in SAFE else "write"
    if needed not in scopes:
        raise Problem(403, "scope_missing", f"The token lacks the scope: {needed}.")


def _holder(request: HttpRequest, shown: str) -> Caller:
    if "." in shown:  # as in no token
        return passed(request, shown)
    token = good_tokens().filter(digest=digest_of(shown)).first()
    if token is None:
        raise unauthorized(token_shown=True)
    _demand(request, token.scopes.split())
    token_usage.note(token.pk)
    return Caller(owner=f"user:{token.user_id}", token=token.pk)
