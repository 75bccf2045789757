"""Who is asking: the holder of a token or a pass, a session's user, or its visitor."""

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

NO_VISITOR = "visitor:"  # owns nothing, ever
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1


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
            return Caller(owner=NO_VISITOR)
        owner = f"visitor:{visitor_session(request)}"
    return Caller(owner=owner, session=request.session.session_key)


def signed_caller(request: HttpRequest, shown: str) -> Caller:
    """Whom the pass lets in. Raises `Problem`."""
    known = signed_tokens.verify(shown)
    if known is None:
        raise unauthorized(token_shown=True)
    _require_scopes(request, known.scopes)
    caller = Caller(owner=str(known.owner))
    if not active_callers({caller}):
        raise unauthorized(token_shown=True)
    return caller


def _require_scopes(request: HttpRequest, scopes: Collection[str]) -> None:
    needed = "read" if request.method in SAFE else "write"
    if needed not in scopes:
        raise Problem(403, "scope_missing", f"The token lacks the scope: {needed}.")


def _holder(request: HttpRequest, shown: str) -> Caller:
    if "." in shown:  # as in no token
        return signed_caller(request, shown)
    token = valid_tokens().filter(digest=digest_of(shown)).first()
    if token is None:
        raise unauthorized(token_shown=True)
    _require_scopes(request, token.scopes.split())
    token_usage.note(token.pk)
    return Caller(owner=f"user:{token.user_id}", token=token.pk)
