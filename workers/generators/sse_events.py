"""Joins the lines of Server-Sent Events and decodes their data from JSON.

WHATWG HTML §9.2.6 joins the `data` lines of one event with LF. Some servers send each object in
one line, without an empty line between two objects. So a first `data` line that is a complete JSON
value counts as an event at once. Any other line waits for the rest of its event.
"""

import json
from enum import Enum

import orjson

from workers.generators import sse_lines
from workers.generators.sse_lines import LineTooLong


class Signal(Enum):
    """What a line may mean other than a JSON value."""

    NOTHING = "nothing"  # a comment, an ignored field, or a part of an event
    DONE = "[DONE]"  # OpenAI's marker for the end of the stream


class EventJoiner:
    """Joins the lines of each event and decodes its data. Takes one line at a time."""

    def __init__(self) -> None:
        self._name = b""
        self._data = bytearray()  # of an event whose first line is not JSON by itself

    def take(self, line: bytes) -> object:
        """Return a JSON value or a Signal. Raises `ValueError` for invalid JSON, `LineTooLong`."""
        if not line:
            return self._dispatch() if self._data or self._name else Signal.NOTHING
        if not line.startswith(b"data:"):
            if line.startswith(b"event:"):
                self._name = line[6:].strip()
            return Signal.NOTHING
        data = line[5:].strip()  # JSON ignores white space around a value
        if self._data:
            self._data += b"\n" + data
            if len(self._data) > sse_lines.LONGEST_LINE:
                raise LineTooLong
            return Signal.NOTHING
        if data == b"[DONE]":
            return Signal.DONE
        if not data:
            return Signal.NOTHING
        try:
            body = _decode(data)
        except ValueError:
            self._data += data
            return Signal.NOTHING
        return self._mark_error(body) if self._name else body

    def _dispatch(self) -> object:
        try:
            if not self._data:
                return Signal.NOTHING
            try:
                return self._mark_error(_decode(bytes(self._data)))
            except ValueError:
                if self._name == b"error":
                    return {"error": self._data.decode("utf-8", "replace")}
                raise
        finally:
            self._name = b""
            self._data.clear()

    def _mark_error(self, body: object) -> object:
        """Return `body`, wrapped as an error if the event's name is `error`."""
        if self._name != b"error" or (isinstance(body, dict) and body.get("error")):
            return body
        return {"error": body or "error"}


def _decode(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        # Less strict: it accepts half a surrogate pair, and bytes that are not UTF-8.
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
