"""How an answer becomes JSON."""

from typing import Any

import orjson
from django.http import HttpRequest
from ninja.renderers import BaseRenderer


def rendered(body: Any) -> bytes:
    """The body's JSON. PostgreSQL forgets the order of the keys of an answer that is kept, and a
    repeated request is answered word for word: so they are always sorted."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


class Renderer(BaseRenderer):
    """`rendered`, as Ninja asks for it."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return rendered(data)
