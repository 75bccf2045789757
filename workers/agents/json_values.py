"""Converts the values that agents yield to JSON that can be stored, and cuts long texts."""

from collections.abc import Iterable
from typing import Any

import orjson

from streams.protocol.sse import clean_json

MOST_LEVELS = 50  # of nested lists and objects; parsers of other languages refuse more than 64
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def plain(value: Any) -> tuple[Any, int]:
    """Return the value as plain JSON that can be stored, and its size in bytes.

    Dataclasses, dates, UUIDs, enums and pydantic's models take their usual JSON form. Keys become
    strings; NaN and Infinity become null. Raises `TypeError`, `ValueError` or `RecursionError` for
    a value without a JSON form, such as one with a cycle, with more than MOST_LEVELS levels, or
    with an integer beyond 64 bits.
    """
    try:
        encoded = orjson.dumps(value, default=_of_model, option=OPTIONS)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise
        encoded = orjson.dumps(clean_json(value), default=_of_model, option=OPTIONS)
    made = orjson.loads(encoded)
    if b"\\u0000" in encoded:  # NUL, or a backslash before "u0000", which stays
        made = clean_json(made)
    if encoded.count(b"[") + encoded.count(b"{") > MOST_LEVELS:
        _check_levels(made)
    return made, len(encoded)


def cut(text: str, most_bytes: int) -> str:
    """Return a beginning of the text that fits into `most_bytes` of JSON, in whole characters."""
    kept = text.encode()[:most_bytes].decode(errors="ignore")
    while kept and len(orjson.dumps(kept)) - 2 > most_bytes:
        kept = kept[: len(kept) * 3 // 4]  # JSON escapes some characters, with up to six bytes
    return kept


def _of_model(value: Any) -> Any:
    """Convert pydantic's models and sets. Raises `TypeError` for anything else."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(type(value).__name__)


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [item for holder in level for item in _items(holder)]
        if not level:
            return
    raise ValueError(f"more than {MOST_LEVELS} levels")


def _items(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
