"""One bounded line in the log for a request that Django refuses, since anybody can send it.

Django logs a wrong `Host`, and whatever else it calls a suspicious operation, twice: as an error
with a whole traceback, then once more as a bad request.
"""

import logging

from django.http import HttpRequest

LONGEST = 300  # characters of the message: a `Host` and a path may be as long as a request's head
SUSPICIOUS = "django.security."
LOGGED = "_unspool_refusal_logged"  # an attribute of the request


class Refused(logging.Filter):
    """For a handler: a logger's own filter would not see what its children log."""

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
