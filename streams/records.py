"""What the log holds: one line a fact, with the id of the request that it belongs to.

A request brings its id as `X-Request-ID`, or gets one; it is told to whoever asked, goes with the
ring to the worker, and stands in every line until the run has ended.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

HEADER = "X-Request-ID"
NONE = "-"
SANE = re.compile("[A-Za-z0-9._-]{1,64}")  # else a client could write lines of its own

_request: ContextVar[str] = ContextVar("request", default=NONE)

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


def current() -> str:
    """The id of the request that this thread or task works for."""
    return _request.get()


def belong(request: object) -> None:
    """From now on this thread or task works for that request; for none, if the id is not sane."""
    sane = isinstance(request, str) and SANE.fullmatch(request)
    _request.set(str(request) if sane else NONE)


@sync_and_async_middleware
def identify(answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Answer]:
    """Django middleware: give the request its id, and tell it."""

    def begin(request: HttpRequest) -> None:
        belong(request.headers.get(HEADER))
        if current() == NONE:
            belong(uuid4().hex)

    def tell(response: HttpResponseBase) -> HttpResponseBase:
        response.headers[HEADER] = current()
        return response

    if iscoroutinefunction(answer):

        async def later(request: HttpRequest) -> HttpResponseBase:
            begin(request)
            return tell(await answer(request))

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        begin(request)
        return tell(answer(request))

    return now


class Belonging(logging.Filter):
    """Gives every record its `request`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = current()
        return True


class Json(logging.Formatter):
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
