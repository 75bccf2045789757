"""Authentication of API requests, which runs before any other code of an operation."""

from django.http import HttpRequest

from streams.access.authentication import caller_of
from streams.access.authorization import Caller
from streams.http.problems import Problem


class ApiRequest(HttpRequest):
    """An authenticated request: `auth` is its caller."""

    auth: Caller


class Authentication:
    """The authentication that Ninja calls; Ninja stores the result as `request.auth`.

    Raises `Problem`: 411 or 415 because of the body, or the problems of `caller_of`.
    """

    media_types: tuple[str, ...] = ("application/json",)  # of bodies
    csrf = True  # makes the documentation page send the CSRF token

    def __call__(self, request: HttpRequest) -> Caller:
        # Must run before the CSRF check, which reads a form's body and so consumes it.
        require_json(request, self.media_types)
        return caller_of(request)


def require_json(
    request: HttpRequest, media_types: tuple[str, ...] = Authentication.media_types
) -> None:
    """Raise `Problem` for a body that is not JSON (415) or has no announced length (411)."""
    if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
        # Django checks a body's size only against its Content-Length.
        raise Problem(411, "length_required", "Send the body with a Content-Length.")
    has_body = request.headers.get("Content-Length", "0") not in ("", "0")
    # The CSRF check would parse a form without a body, too.
    is_form = request.content_type == "multipart/form-data"
    if (has_body or is_form) and request.content_type not in media_types:
        raise Problem(415, "unsupported_media_type", "Send the body as application/json.")
