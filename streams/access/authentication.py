"""Who is asking: the holder of an API token or a signed token, a session's user, or a visitor."""

from collections.abc import Collection

from django.conf import settings
from django.http import HttpRequest
from ninja.utils import check_csrf

from streams.access import signed_tokens
from streams.access.api_tokens import digest_of, valid_tokens
from streams.access.authorization import Caller, active_callers, session_owner
from streams.access.token_usage import token_usage
from streams.access.visitors import visitor_session
from streams.http.problems import Problem, unauthorized

NO_VISITOR = "visitor:"  # the owner of no conversation
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1


def caller_of(request: HttpRequest) -> Caller:
    """Who sent this request. Raises `Problem`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _bearer(request, token.strip())
    user = request.user if request.user.is_authenticated else None
    owner = session_owner(request.session, user)
    if owner is None and not settings.ALLOW_ANONYMOUS:
        raise unauthorized(token_shown="Authorization" in request.headers)
    if request.method not in SAFE and check_csrf(request):
        # The session's cookie does not show that our own page sent the request.
        detail = "Send the csrftoken cookie's value as X-CSRFToken; GET / sets the cookie."
        raise Problem(403, "csrf_failed", detail)
    if owner is None:
        if request.method in SAFE:
            # A visitor who only reads owns nothing yet, so no session is stored.
            return Caller(owner=NO_VISITOR)
        owner = f"visitor:{visitor_session(request)}"
    return Caller(owner=owner, session=request.session.session_key)


def signed_caller(request: HttpRequest, token: str) -> Caller:
    """The owner whom a signed token names. Raises `Problem`."""
    verified = signed_tokens.verify(token)
    if verified is None:
        raise unauthorized(token_shown=True)
    _require_scopes(request, verified.scopes)
    caller = Caller(owner=str(verified.owner))
    if not active_callers({caller}):
        raise unauthorized(token_shown=True)
    return caller


def _require_scopes(request: HttpRequest, scopes: Collection[str]) -> None:
    needed = "read" if request.method in SAFE else "write"
    if needed not in scopes:
        raise Problem(403, "scope_missing", f"The token lacks the scope: {needed}.")


def _bearer(request: HttpRequest, token: str) -> Caller:
    if "." in token:  # a JWT has dots, an API token has none
        return signed_caller(request, token)
    row = valid_tokens().filter(digest=digest_of(token)).first()
    if row is None:
        raise unauthorized(token_shown=True)
    _require_scopes(request, row.scopes.split())
    token_usage.note(row.pk)
    return Caller(owner=f"user:{row.user_id}", token=row.pk)
