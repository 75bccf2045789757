"""How JSON becomes a request's body, and an answer JSON."""

import json
from dataclasses import asdict
from typing import Any

import orjson
from django.http import HttpRequest
from ninja.parser import Parser as NinjaParser
from ninja.renderers import BaseRenderer

OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


def rendered(body: Any) -> bytes:
    """The body's JSON. PostgreSQL forgets the order of the keys of an answer that is kept, and a
    repeated request is answered word for word: so they are always sorted."""
    # orjson sorts the keys of dictionaries, not the fields of values.
    return orjson.dumps(body, default=asdict, option=OPTIONS)


class Renderer(BaseRenderer):
    """`rendered`, as Ninja asks for it."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return rendered(data)


class Parser(NinjaParser):
    """Takes UTF-8 alone, as RFC 8259 has it; Ninja's would guess."""

    def parse_body(self, request: HttpRequest) -> Any:
        return json.loads(request.body.decode("utf-8-sig"))
