"""JSON that agents give: made plain, made storable, and cut to a size."""

from typing import Any

import orjson

from streams.protocol.sse import clean

OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def plain(value: Any) -> tuple[Any, int]:
    """The value as plain JSON that can be stored, and its size in bytes.

    Dataclasses, dates, UUIDs, enums and pydantic's models become what their JSON is. Raises
    `TypeError` for what has no JSON.
    """
    try:
        encoded = orjson.dumps(value, default=_of_model, option=OPTIONS)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise
        encoded = orjson.dumps(_clean(value), default=_of_model, option=OPTIONS)
    made = orjson.loads(encoded)
    if b"\\u0000" in encoded:  # or an escaped backslash before "u0000", which cleaning keeps
        made = _clean(made)
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


def _clean(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean(item) for item in value]
        case _:
            return value
