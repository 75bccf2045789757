"""Error responses over HTTP: problem details (RFC 9457), each with a stable code."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
from django.http import HttpResponse

from streams.protocol.sse import clean


class Problem(Exception):
    """The request is refused. `code` is stable, for programs; `detail` is for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


TOO_MANY_STREAMS = Problem(
    429,
    "too_many_streams",
    "You have as many open streams as you may.",
    headers={"Retry-After": "10"},
)


def problem_response(problem: Problem) -> HttpResponse:
    """The `application/problem+json` response for this problem."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": clean(problem.detail),
        **errors_of(problem),
    }
    return refused(problem, orjson.dumps(body), "application/problem+json")


def errors_of(problem: Problem) -> dict[str, object]:
    """`errors`, if there are any. They may quote text that UTF-8 cannot encode."""
    errors = [{name: clean(text) for name, text in error.items()} for error in problem.errors]
    return {"errors": errors} if errors else {}


def refused(problem: Problem, content: bytes | str, content_type: str) -> HttpResponse:
    """The response with this content for this problem."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    return HttpResponse(content, status=problem.status, content_type=content_type, headers=headers)


def not_found() -> Problem:
    """404. It is the same for a missing object and for an object of another owner."""
    return Problem(404, "not_found", "There is nothing here, or it is not yours.")


def unauthorized(*, token_shown: bool) -> Problem:
    """401. Its challenge distinguishes a wrong token from a missing one (RFC 6750 §3)."""
    realm = 'Bearer realm="unspool"'
    challenge = f'{realm}, error="invalid_token"' if token_shown else realm
    detail = (
        "The token is unknown, revoked or expired."
        if token_shown
        else "Sign in, or send a token: Authorization: Bearer <token>."
    )
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
