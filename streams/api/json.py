"""JSON of the API: parses request bodies and renders response bodies."""

import json
from threading import Lock
from typing import Any

import orjson
from django.http import HttpRequest
from ninja.parser import Parser as NinjaParser
from ninja.renderers import BaseRenderer

from streams.http.problems import Problem
from streams.http.request_limits import SYNTAX, is_flat
from streams.protocol.sse import as_json

_parsing = Lock()
OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


def dump_json(body: Any) -> bytes:
    """The body as JSON bytes, with sorted keys.

    A repeated request must get identical bytes, even if another code path makes the body.
    """
    # `as_json`, because orjson sorts the keys of dictionaries, but not the fields of dataclasses.
    return orjson.dumps(body, default=as_json, option=OPTIONS)


class Renderer(BaseRenderer):
    """Ninja's interface to `dump_json`."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return dump_json(data)


class Parser(NinjaParser):
    """Parses bodies as UTF-8 only (RFC 8259 §8.1); Ninja's own parser guesses the encoding.

    Raises `Problem` for a body with more than `syntax` bytes outside of strings.
    """

    def __init__(self, syntax: int = SYNTAX) -> None:
        self._syntax = syntax

    def parse_body(self, request: HttpRequest) -> Any:
        return parse_json(request.body, self._syntax)


def parse_json(body: bytes, syntax: int = SYNTAX) -> Any:
    """The value of this JSON. Raises `Problem` if more than `syntax` bytes are outside of strings.

    Raises `ValueError` or `RecursionError` if the body is not JSON in UTF-8.
    """
    # One body at a time. Parsing the longest body blocks all other threads for ten milliseconds,
    # and parsing several at once would delay every stream by the sum of their times.
    with _parsing:
        text = body.decode("utf-8-sig")
        if not is_flat(body, syntax):
            detail = f"At most {syntax} bytes of a body may be outside of its strings."
            raise Problem(422, "invalid_request", detail)
        return json.loads(text)
