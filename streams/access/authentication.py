"""Finds the caller of a request: by API token, signed token, signed-in session or visitor."""

from collections.abc import Collection

from django.conf import settings
from django.http import HttpRequest
from ninja.utils import check_csrf

from streams.access import signed_tokens
from streams.access.api_tokens import find_token
from streams.access.authorization import Caller, active_callers, session_owner
from streams.access.token_usage import token_usage
from streams.access.visitors import visitor_session
from streams.http.problems import Problem, unauthorized

NO_VISITOR = "visitor:"  # the owner of no conversation
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1


def caller_of(request: HttpRequest) -> Caller:
    """The caller who sent this request. A visitor's first unsafe request stores a session.

    Raises `Problem`: 401 without valid proof, 403 if a scope or the CSRF token is missing.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token_caller(request, token.strip())
    user = request.user if request.user.is_authenticated else None
    owner = session_owner(request.session, user)
    if owner is None and not settings.ALLOW_ANONYMOUS:
        raise unauthorized(token_shown="Authorization" in request.headers)
    if request.method not in SAFE and check_csrf(request):
        # A session cookie alone does not prove that a page of this site sent the request.
        detail = "Send the csrftoken cookie's value as X-CSRFToken; GET / sets the cookie."
        raise Problem(403, "csrf_failed", detail)
    if owner is None:
        if request.method in SAFE:
            # This visitor has no conversations yet, so reading needs no stored session.
            return Caller(owner=NO_VISITOR)
        owner = f"visitor:{visitor_session(request)}"
    return Caller(owner=owner, session=request.session.session_key)


def signed_caller(request: HttpRequest, token: str) -> Caller:
    """A caller who acts for the owner named in the signed token.

    Raises `Problem`: 401 if the token is not valid, 403 if it lacks the request's scope.
    """
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


def token_caller(request: HttpRequest, token: str) -> Caller:
    """The caller who sent this API token or signed token. Raises `Problem`, 401 or 403."""
    if "." in token:  # a JWT has dots, an API token has none
        return signed_caller(request, token)
    found = find_token(token)
    if found is None:
        raise unauthorized(token_shown=True)
    _require_scopes(request, found.scopes)
    token_usage.note(found.id)
    return Caller(owner=f"user:{found.user}", token=found.id)
