"""Which problem each exception is to a client. What nobody foresaw is logged, and tells nothing."""

import logging
import sys

from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.views.defaults import bad_request, server_error
from ninja.errors import HttpError, ValidationError

from streams.api.idempotency import repeated
from streams.api.schemas import SHORT, TOO_LONG
from streams.chat.ask import (
    ActiveRunLimit,
    ConversationBusy,
    NotLastTurn,
    RateLimited,
    UnknownModel,
)
from streams.chat.idempotency import Answered, KeyReused, TooManyRepeats
from streams.chat.redis_memory import RedisFull
from streams.http.problems import Problem, not_found, problem_response
from streams.log.errors import Superseded

logger = logging.getLogger(__name__)
SOON = {"Retry-After": "5"}  # seconds


def error_response(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer to a request that raised this."""
    if isinstance(error, Answered):
        return repeated(error.answer.status, error.answer.body)
    problem = problem_of(error)
    if problem.status >= 500:
        logger.error("%s %s refused", request.method, request.path, exc_info=error)
    forget_frames(error)
    return problem_response(problem)


def forget_frames(error: BaseException | None) -> None:
    """Break the cycle of an exception and the frames that it passed, which hold it.

    Ninja keeps an exception in a local variable of a frame in the exception's own traceback. That
    frame also holds the request and its body, and a full collection comes seldom.
    """
    while error:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def malformed_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django itself refuses before any address is looked for, as a wrong `Host`."""
    if request.path.startswith("/api/"):
        return problem_response(problem_of(exception))
    return bad_request(request, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """The answer where a page or a middleware raised: 503 where the database is away, else 500.

    Django calls it while it handles the exception.
    """
    error = sys.exc_info()[1]
    if not isinstance(error, OperationalError | InterfaceError):
        return server_error(request)
    problem = problem_of(error)
    if request.path.startswith("/api/"):
        return problem_response(problem)
    return HttpResponse(
        f"{problem.detail}\n", status=problem.status, content_type="text/plain", headers=SOON
    )


def problem_of(error: Exception) -> Problem:
    """What the exception means to whoever asked."""
    match error:
        case Problem():
            return error
        case ValidationError():
            return _invalid(error)
        case HttpError(__cause__=Problem() as problem):
            return problem
        case HttpError():
            return Problem(400, "bad_json", "The body cannot be read as JSON in UTF-8.")
        case Http404() | ObjectDoesNotExist() | Superseded():  # deleted since it was found
            return not_found()
        case ConversationBusy():
            detail = "A reply is being written: when_busy says whether to queue or to interrupt."
            return Problem(409, "conversation_busy", detail)
        case NotLastTurn():
            return Problem(409, "not_last_turn", "Only the last turn can be answered anew.")
        case UnknownModel():
            return Problem(422, "unknown_model", "GET /api/models/ says which may be asked for.")
        case ActiveRunLimit():
            detail = "You have as many live runs as you may."
            return Problem(429, "too_many_runs", detail, headers=SOON)
        case RateLimited():
            detail = "You have begun as many replies in this minute as you may."
            return Problem(429, "too_many_posts", detail, headers={"Retry-After": "60"})
        case TooManyRepeats(seconds=seconds):
            detail = "You have repeated as many requests in this minute as you may."
            return Problem(429, "too_many_posts", detail, headers={"Retry-After": str(seconds)})
        case RedisFull():
            detail = "There is no room for another reply at present. Try again in a few seconds."
            return Problem(503, "unavailable", detail, headers=SOON)
        case KeyReused():
            detail = "This Idempotency-Key came before, with another body."
            return Problem(422, "idempotency_key_reused", detail)
        case UpdateError():
            return Problem(403, "session_ended", "The session ended meanwhile. Begin another.")
        case RequestDataTooBig():
            return Problem(413, "body_too_large", "The body is larger than any request needs.")
        case SuspiciousOperation() | UnreadablePostError():
            return Problem(400, "bad_request", "The request cannot be read.")
        case OperationalError() | InterfaceError():
            return Problem(503, "unavailable", "Try again in a few seconds.", headers=SOON)
        case _:
            return Problem(500, "internal", "Something went wrong here. It has been noted.")


def _invalid(error: ValidationError) -> Problem:
    errors = [
        {
            "field": _field(fault["loc"]),
            "code": str(fault["type"]),
            "detail": str(fault["msg"]),
        }
        for fault in error.errors
    ]
    detail = "; ".join(f"{fault['field']}: {fault['detail']}" for fault in errors[:5])
    if any(fault["code"] == TOO_LONG for fault in errors):
        return Problem(422, TOO_LONG, detail, errors=errors)
    return Problem(422, "invalid_request", detail, errors=errors)


def _field(place: tuple[object, ...]) -> str:
    """Where it is, cut: an unknown field's name may be as long as a body."""
    return ".".join(str(part)[:SHORT] for part in place[1:]) or str(place[0])
