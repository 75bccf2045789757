"""Reads JSON from the database."""

import json
from typing import Any


def number(digits: str) -> float:
    """The integer; beyond 64 bits a float, because it was a float when it was stored.

    PostgreSQL returns 1e300 as 301 digits, but the JSON of a response cannot have such an integer.
    """
    value = int(digits) if len(digits) <= 20 else float(digits)
    return value if -(2**63) <= value < 2**64 else float(value)


class JsonDecoder(json.JSONDecoder):
    """Python's decoder, with `number` for integers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_int=number, **options)
