"""Formats log records as JSON, one object a line, for programs that collect logs.

python-json-logger would also write everything that a library attaches to a record, such as a task's
arguments or a request. So it gets a copy of the record that has only the request id.
"""

import logging
import time

from pythonjsonlogger.json import JsonFormatter as LibraryFormatter

FIELDS = {
    "asctime": "time",
    "levelname": "level",
    "name": "logger",
    "request": "request",
    "message": "message",
    "exc_info": "exception",  # a traceback, if the record has one
}
COPIED = ("name", "levelname", "created", "msecs", "exc_info", "exc_text", "request")


class JsonFormatter(LibraryFormatter):
    """Writes `FIELDS` and no others; `time` is ISO 8601 in UTC."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        always = [attribute for attribute in FIELDS if attribute != "exc_info"]
        super().__init__(always, rename_fields=FIELDS)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        copied = {name: record.__dict__.get(name) for name in COPIED}
        return super().format(logging.makeLogRecord(copied | {"msg": record.getMessage()}))
