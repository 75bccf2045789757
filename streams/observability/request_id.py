"""What the log holds: one line a fact, with the id of the request that it belongs to.

A request brings its id as `X-Request-ID`, or gets one; it is told to whoever asked, goes with the
ring to the worker, and stands in every line until the run has ended.
"""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import uuid4

import orjson
from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Request-ID"
NONE = "-"
ALLOWED = re.compile("[A-Za-z0-9._-]{1,64}")  # else a client could write lines of its own

_request: ContextVar[str] = ContextVar("request", default=NONE)

Answer = Callable[[HttpRequest], HttpResponseBase]


def current() -> str:
    """The id of the request that this thread or task works for."""
    return _request.get()


def adopt_request_id(request: object) -> None:
    """From now on this thread or task works for that request; for none, if the id is not sane."""
    sane = isinstance(request, str) and ALLOWED.fullmatch(request)
    _request.set(str(request) if sane else NONE)


def request_id_middleware(answer: Answer) -> Answer:
    """Django middleware: give the request its id, and tell it."""

    def identified(request: HttpRequest) -> HttpResponseBase:
        adopt_request_id(request.headers.get(HEADER))
        if current() == NONE:
            adopt_request_id(uuid4().hex)
        response = answer(request)
        response.headers[HEADER] = current()
        return response

    return identified


class RequestIdFilter(logging.Filter):
    """Gives every record its `request`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = current()
        return True


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, for programs that gather lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request": getattr(record, "request", NONE),
            "said": record.getMessage(),
        }
        if record.exc_info:
            line["fault"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
