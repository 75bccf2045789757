"""Reads the JSON that a database has kept."""

import json
from typing import Any


def number(digits: str) -> float:
    """The integer; beyond 64 bits the float as which it was stored.

    PostgreSQL writes 1e300 as 301 digits, and no JSON of a response may have such an integer.
    """
    value = int(digits) if len(digits) <= 20 else float(digits)
    return value if -(2**63) <= value < 2**64 else float(value)


class JsonDecoder(json.JSONDecoder):
    """Python's decoder, but for the numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_int=number, **options)
