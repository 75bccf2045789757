"""Who comes in, and with what: asked before anything else of every request to the API."""

from django.http import HttpRequest

from streams.access.authentication import caller_of
from streams.access.authorization import Caller
from streams.http.problems import Problem


class ApiRequest(HttpRequest):
    """A request whose caller is known."""

    auth: Caller


class Authentication:
    """Ninja keeps what this gives as `request.auth`. Raises `Problem`."""

    csrf = True  # the documentation's page must send the token

    def __call__(self, request: HttpRequest) -> Caller:
        # Before the CSRF check, which would read the body of a form, and no one could again.
        require_json(request)
        return caller_of(request)


def require_json(request: HttpRequest) -> None:
    """Refuse a body that is anything else, and one whose size nobody said."""
    if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
        # Django bounds a body by the size that it announces.
        raise Problem(411, "length_required", "Send the body with a Content-Length.")
    length = request.headers.get("Content-Length") or "0"
    if length != "0" and request.content_type != "application/json":
        raise Problem(415, "unsupported_media_type", "Send the body as application/json.")
