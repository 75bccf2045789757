"""Extracts HTTP statuses and texts from a model server's error, in any shape of JSON.

Servers agree on no shape. An error may be a string, a list or nested objects, and its code a
number or a name. Fields that describe an error are read at any depth. All other fields are
ignored, because they may repeat the prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice

TEXT_FIELDS = {
    *("error", "errors", "message", "msg", "detail", "details", "description", "reason", "title"),
    *("error_message", "errormessage", "error_msg", "error_description", "text", "cause"),
    *("innererror", "inner_error", "metadata", "raw", "loc", "param"),
}
CODE_FIELDS = {
    *("code", "status", "statuscode", "status_code", "type", "__type"),
    *("error_code", "errorcode", "error_type", "errortype"),
}
MAX_DEPTH = 8  # objects and lists inside each other
MAX_VALUES = 64  # of one error
MAX_CHARS = 2000  # of one string; all strings together may have four times as many


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The HTTP statuses that an error names; its codes and messages as text, one per line."""

    statuses: tuple[int, ...]
    text: str


def read(body: object) -> ErrorBody:
    """Read an error from decoded JSON or plain text. Never raises."""
    statuses, strings = [], []
    for value, is_code in islice(_leaves(body, is_code=False, depth=0), MAX_VALUES):
        if is_code and (status := _status(value)):
            statuses.append(status)
        elif isinstance(value, str):
            strings.append(value[:MAX_CHARS])
    return ErrorBody(tuple(dict.fromkeys(statuses)), "\n".join(strings)[: 4 * MAX_CHARS])


def _leaves(value: object, *, is_code: bool, depth: int) -> Iterator[tuple[object, bool]]:
    if depth > MAX_DEPTH:
        return
    match value:
        case dict():
            for key, inner in value.items():
                name = str(key).lower()
                if name in TEXT_FIELDS or name in CODE_FIELDS:
                    yield from _leaves(inner, is_code=name in CODE_FIELDS, depth=depth + 1)
        case list():
            for inner in value[:MAX_VALUES]:
                yield from _leaves(inner, is_code=is_code, depth=depth + 1)
        case _:
            yield value, is_code


def _status(value: object) -> int | None:
    """An HTTP status from 400 to 599, such as 429, 429.0 or "429"; None for anything else."""
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    is_status = HTTPStatus.BAD_REQUEST <= number < 600 and number.is_integer()
    return int(number) if is_status else None
