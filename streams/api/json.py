"""How JSON becomes a request's body, and an answer JSON."""

import json
from dataclasses import asdict
from threading import Lock
from typing import Any

import orjson
from django.http import HttpRequest
from ninja.parser import Parser as NinjaParser
from ninja.renderers import BaseRenderer

from streams.http.bodies import is_flat
from streams.http.problems import Problem

OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


def dump_json(body: Any) -> bytes:
    """The body's JSON. PostgreSQL forgets the order of the keys of an answer that is kept, and a
    repeated request is answered word for word: so they are always sorted."""
    # orjson sorts the keys of dictionaries, not the fields of values.
    return orjson.dumps(body, default=asdict, option=OPTIONS)


class Renderer(BaseRenderer):
    """`rendered`, as Ninja asks for it."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return dump_json(data)


class Parser(NinjaParser):
    """Takes UTF-8 alone, as RFC 8259 has it; Ninja's would guess. Raises `Problem`."""

    def __init__(self) -> None:
        # One body at a time: while one of the longest is parsed, no other thread runs for ten
        # milliseconds, and every stream would wait for all that are parsed at once.
        self._turn = Lock()

    def parse_body(self, request: HttpRequest) -> Any:
        with self._turn:
            text = request.body.decode("utf-8-sig")
            if not is_flat(request.body):
                detail = "A body is one object of a few strings: no request nests anything in it."
                raise Problem(422, "invalid_request", detail)
            return json.loads(text)
