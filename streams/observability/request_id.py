"""The id of a request, which stands in every log line that belongs to the request.

A request brings its id as `X-Request-ID`, or Unspool makes one, and the response returns it. The
task takes the id to the worker, so the lines about a run have it until the run has ended.
"""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from uuid import uuid4

from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Request-ID"
NONE = "-"
ALLOWED = re.compile("[A-Za-z0-9._-]{1,64}")  # otherwise a client could forge log lines

_request: ContextVar[str] = ContextVar("request", default=NONE)

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def current() -> str:
    """The id of the request for which this thread or task works; `-` without one."""
    return _request.get()


def adopt_request_id(request: object) -> None:
    """Make this the current request id of the thread or task; `-` if the id is invalid."""
    valid = isinstance(request, str) and ALLOWED.fullmatch(request)
    _request.set(str(request) if valid else NONE)


def request_id_middleware(get_response: GetResponse) -> GetResponse:
    """Django middleware: adopt the request's id or make one, and return it in the response."""

    def with_request_id(request: HttpRequest) -> HttpResponseBase:
        adopt_request_id(request.headers.get(HEADER))
        if current() == NONE:
            adopt_request_id(uuid4().hex)
        response = get_response(request)
        response.headers[HEADER] = current()
        return response

    return with_request_id


class RequestIdFilter(logging.Filter):
    """Adds `request` to every record: the id, or `-`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = current()
        return True
