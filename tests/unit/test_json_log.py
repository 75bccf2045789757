"""With LOG_JSON each log record is one JSON object with known fields, whatever it contains."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.utils.module_loading import import_string

from streams.observability.request_id import RequestIdFilter, adopt_request_id


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """The output of a handler with the settings' formatter. No request is current."""
    adopt_request_id(None)  # a test's client leaves the id of its last request in this context
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(import_string(settings.LOGGING["formatters"]["json"]["()"])())
    handler.addFilter(RequestIdFilter())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    adopt_request_id(None)


logger = logging.getLogger("tests.json_log")
logger.propagate = False


def only(lines: StringIO) -> dict[str, Any]:
    (line,) = lines.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_record_is_one_object_with_its_request_and_its_time_in_utc(lines: StringIO) -> None:
    adopt_request_id("one-request")
    before = datetime.now(UTC)
    logger.warning("run %s queued", 7)
    line = only(lines)
    time = datetime.fromisoformat(line.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert before - timedelta(milliseconds=1) <= time <= datetime.now(UTC)
    assert line == {
        "level": "WARNING",
        "logger": "tests.json_log",
        "request": "one-request",
        "message": "run 7 queued",
    }


def test_the_fields_come_in_one_order_and_without_a_request_there_is_a_dash(
    lines: StringIO,
) -> None:
    logger.error("no request")
    line = only(lines)
    assert [*line] == ["time", "level", "logger", "request", "message"]
    assert line["request"] == "-"


def test_an_exception_is_its_traceback(lines: StringIO) -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger.exception("failed")
    line = only(lines)
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: a\nb")


def test_attributes_attached_by_a_library_are_not_written(lines: StringIO) -> None:
    """Celery attaches a task's arguments, Django the request and more."""
    names = ("data", "request", "time", "level", "logger", "exception", "prefix")
    extra = {name: {"args": "a secret"} for name in names}
    logger.warning("done", extra=extra, stack_info=True)
    assert "a secret" not in lines.getvalue()
    line = only(lines)
    assert line["level"] == "WARNING"
    assert [*line] == ["time", "level", "logger", "request", "message"]


def test_a_message_that_is_not_a_string_is_written_as_one(lines: StringIO) -> None:
    logger.warning({"level": "a dict", "n": b"bytes"})
    line = only(lines)
    assert (line["level"], line["message"]) == ("WARNING", "{'level': 'a dict', 'n': b'bytes'}")


@pytest.mark.parametrize("text", ["a\nb\r\n", "\x1b[31m", "\ud83d", "\u2028", '"}{"', "é🙂"])
def test_any_text_is_one_line_and_decodes_to_the_same(lines: StringIO, text: str) -> None:
    logger.warning("%s", text)
    assert lines.getvalue().isascii()
    assert only(lines)["message"] == text
