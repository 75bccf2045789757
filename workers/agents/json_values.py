"""JSON that agents give: made plain, made storable, and cut to a size."""

from collections.abc import Iterable
from typing import Any

import orjson

from streams.protocol.sse import clean_json

MOST_LEVELS = 50  # of lists and objects: parsers of other languages refuse more than 64
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def plain(value: Any) -> tuple[Any, int]:
    """The value as plain JSON that can be stored, and its size in bytes.

    Dataclasses, dates, UUIDs, enums and pydantic's models become what their JSON is, keys become
    strings, NaN and Infinity null. Raises `TypeError`, `ValueError` or `RecursionError` for what
    has no JSON: cycles, more than MOST_LEVELS, integers beyond 64 bits.
    """
    try:
        encoded = orjson.dumps(value, default=_of_model, option=OPTIONS)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise
        encoded = orjson.dumps(clean_json(value), default=_of_model, option=OPTIONS)
    made = orjson.loads(encoded)
    if b"\\u0000" in encoded:  # or an escaped backslash before "u0000", which cleaning keeps
        made = clean_json(made)
    if encoded.count(b"[") + encoded.count(b"{") > MOST_LEVELS:
        _check_levels(made)
    return made, len(encoded)


def cut(text: str, most_bytes: int) -> str:
    """The beginning of the text that fits into `most_bytes` of JSON. Cuts between characters."""
    kept = text.encode()[:most_bytes].decode(errors="ignore")
    while kept and len(orjson.dumps(kept)) - 2 > most_bytes:
        kept = kept[: len(kept) * 3 // 4]  # characters that JSON escapes take up to six bytes
    return kept


def _of_model(value: Any) -> Any:
    """pydantic's models, sets and tuples' relatives. Raises `TypeError` for anything else."""
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
