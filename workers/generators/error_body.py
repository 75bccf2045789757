"""What a model server's error says: its numbers and its words, from any shape of JSON.

Servers agree on no shape: an error is a string, a list, an object in an object, with its code as a
number or a name. The fields that describe an error are read at any depth; all others, which may
echo the prompt, are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice

WORDS = {
    *("error", "errors", "message", "msg", "detail", "details", "description", "reason", "title"),
    *("error_message", "errormessage", "error_msg", "error_description", "text", "cause"),
    *("innererror", "inner_error", "metadata", "raw", "loc", "param"),
}
CODES = {
    *("code", "status", "statuscode", "status_code", "type", "__type"),
    *("error_code", "errorcode", "error_type", "errortype"),
}
MAX_DEPTH = 8  # objects and lists inside each other
MAX_VALUES = 64  # of one error
MAX_CHARS = 2000  # of one string, whose beginning is the server's own words; 4 times that of all


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """`statuses` are the HTTP statuses that it names, `text` its codes and words, a line each."""

    statuses: tuple[int, ...]
    text: str


def read(body: object) -> ErrorBody:
    """What this decoded JSON, or plain text, says of an error. Never raises."""
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
                if name in WORDS or name in CODES:
                    yield from _leaves(inner, is_code=name in CODES, depth=depth + 1)
        case list():
            for inner in value[:MAX_VALUES]:
                yield from _leaves(inner, is_code=is_code, depth=depth + 1)
        case _:
            yield value, is_code


def _status(value: object) -> int | None:
    """429, 429.0 and "429" are one; a server's own numbers, such as 50001, are none."""
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    known = HTTPStatus.BAD_REQUEST <= number < 600 and number.is_integer()
    return int(number) if known else None
