"""Logs each request that Django refuses in one short line, because any client can send such ones.

Django logs a wrong `Host`, and every other suspicious operation, twice: as an error with a
traceback, then once more as a bad request.
"""

import logging

from django.http import HttpRequest

LONGEST = 300  # characters of a message: `Host` and path may be as long as the request's whole head
SUSPICIOUS = "django.security."
LOGGED = "_unspool_refusal_logged"  # an attribute of the request


class Refused(logging.Filter):
    """Shortens the records of refused requests, and drops the second one. Attach it to a handler.

    A filter on a logger would not see the records of its child loggers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        suspicious = record.name.startswith(SUSPICIOUS)
        if not suspicious and record.name != "django.request":
            return True
        request = getattr(record, "request", None)
        if suspicious:
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            if isinstance(request, HttpRequest):
                setattr(request, LOGGED, True)
        elif record.exc_info is None and hasattr(request, LOGGED):
            return False
        message = " ".join(record.getMessage().splitlines())
        record.msg = f"{message[:LONGEST]}…" if len(message) > LONGEST else message
        record.args = ()
        return True
