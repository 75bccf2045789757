"""Maps each exception to a problem response. Unexpected exceptions are logged, not described."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.views.defaults import bad_request, server_error
from ninja.errors import HttpError, ValidationError

from streams.api.schemas import SHORT, TOO_LONG
from streams.chat.errors import ConversationBusy, NotLastTurn, UnknownModel
from streams.chat.idempotency import KeyReused, TooManyRepeats
from streams.chat.limits import ActiveRunLimit, RateLimited
from streams.chat.redis_memory import RedisFull
from streams.http.problems import Problem, not_found, problem_response
from streams.http.refusals import API, refusal
from streams.log.errors import Superseded

logger = logging.getLogger(__name__)
# For errors of these types, pydantic's own messages would name a class or type of Python.
AN_OBJECT = dict.fromkeys(
    ("model_type", "model_attributes_type", "dataclass_type", "dict_type"),
    "Input should be an object",
)
BODIES = ("body", "frame")  # the first part of a path within JSON
NAMED = ("missing", "extra_forbidden")  # the last part of their path is always a field's name
FIELD = re.compile(r"(?!(str|int|float|bool|bytes|any)$)[a-z]\w*", re.ASCII)
SOON = {"Retry-After": "5"}  # seconds


def error_response(request: HttpRequest, error: Exception) -> HttpResponse:
    """The response to a request whose view raised this exception."""
    problem = logged_problem(request, error)
    forget_frames(error)
    return problem_response(problem)


def logged_problem(request: HttpRequest, error: Exception) -> Problem:
    """The problem that tells the caller about this exception. An error of the service is logged."""
    problem = problem_of(error)
    if problem.status >= 500 and problem.status != 505:  # HTTP/1.0 is no error of the service
        logger.error("%s %s refused", request.method, request.path, exc_info=error)
    return problem


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of the exception and its causes, because they form reference cycles.

    Ninja keeps the exception in a local variable of a frame that its traceback contains. That
    frame also holds the request and its body, and full garbage collections are rare.
    """
    while error:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def malformed_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a request that Django refuses before routing, such as a wrong `Host`."""
    if request.path.startswith(API):
        return refusal(request.path, problem_of(exception))
    return bad_request(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500: 503 if the database is unavailable, otherwise 500.

    Django calls it while it handles the exception of a page or a middleware.
    """
    error = sys.exc_info()[1]
    if not isinstance(error, OperationalError | InterfaceError):
        return server_error(request)
    problem = problem_of(error)
    if request.path.startswith(API):
        return refusal(request.path, problem)
    return HttpResponse(
        f"{problem.detail}\n", status=problem.status, content_type="text/plain", headers=SOON
    )


def problem_of(error: Exception) -> Problem:
    """The problem that tells the caller about this exception."""
    match error:
        case Problem():
            return error
        case ValidationError():
            return _invalid(error)
        case HttpError(__cause__=Problem() as problem):
            return problem
        case HttpError():
            return Problem(400, "bad_json", "The body cannot be read as JSON in UTF-8.")
        case Http404() | ObjectDoesNotExist() | Superseded():  # deleted after it was found
            return not_found()
        case ConversationBusy():
            detail = "A reply is being written. Wait for its end, or cancel it."
            return Problem(409, "conversation_busy", detail)
        case NotLastTurn():
            return Problem(409, "not_last_turn", "Only the last turn can be answered again.")
        case UnknownModel():
            detail = "No model or agent of this name is offered. GET /api/models/ lists them."
            return Problem(422, "unknown_model", detail)
        case ActiveRunLimit():
            detail = "You have reached the limit of active runs."
            return Problem(429, "too_many_runs", detail, headers=SOON)
        case RateLimited():
            detail = "You have reached the limit of new replies in a minute."
            return Problem(429, "too_many_posts", detail, headers={"Retry-After": "60"})
        case TooManyRepeats(seconds=seconds):
            detail = "You have reached the limit of repeated requests in a minute."
            return Problem(429, "too_many_posts", detail, headers={"Retry-After": str(seconds)})
        case RedisFull():
            detail = "The service has no room for another reply now. Try again in a few seconds."
            return Problem(503, "unavailable", detail, headers=SOON)
        case KeyReused():
            detail = "This Idempotency-Key was used before, with another body."
            return Problem(422, "idempotency_key_reused", detail)
        case UpdateError():
            return Problem(403, "session_ended", "The session has ended. Begin a new one.")
        case RequestDataTooBig():
            return Problem(413, "body_too_large", "The body is larger than any request needs.")
        case SuspiciousOperation() | UnreadablePostError():
            return Problem(400, "bad_request", "The request cannot be read.")
        case OperationalError() | InterfaceError():
            return Problem(503, "unavailable", "Try again in a few seconds.", headers=SOON)
        case _:
            return Problem(500, "internal", "Something went wrong here. The error has been logged.")


def _invalid(error: ValidationError) -> Problem:
    errors = [
        {
            "field": _field(fault),
            "code": str(fault["type"]),
            "detail": AN_OBJECT.get(str(fault["type"]), str(fault["msg"])),
        }
        for fault in error.errors
    ]
    detail = "; ".join(f"{fault['field']}: {fault['detail']}" for fault in errors[:5])
    if any(fault["code"] == TOO_LONG for fault in errors):
        return Problem(422, TOO_LONG, detail, errors=errors)
    return Problem(422, "invalid_request", detail, errors=errors)


def _field(fault: Mapping[str, Any]) -> str:
    """The field's path. Its parts are cut, because an unknown field's name may be very long.

    If a value may have several types, pydantic's path also contains the name of the type, such as
    `str` or `list[AgUiPart]`. That name is left out.
    """
    start, *path = fault["loc"]
    last = len(path) - 1
    parts = [
        str(part)[:SHORT]
        for place, part in enumerate(path)
        if start not in BODIES
        or not isinstance(part, str)
        or (place == last and fault["type"] in NAMED)
        or FIELD.fullmatch(part)
    ]
    return ".".join(parts) or str(start)
