"""`Prefer: wait` (RFC 7240 §4.3): answering a POST with the whole reply, if it ends in time."""

import asyncio
import re
from functools import partial
from time import monotonic
from urllib.request import parse_http_list

import orjson
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from streams.api.rendering import rendered
from streams.followers import followers
from streams.models import Run
from streams.reading import in_thread
from streams.report import Report, report

LONGEST = 60  # seconds
LOOK = 0.2  # seconds between looks at the run's row


def seconds_of(prefer: str) -> int:
    """How long the caller wishes to wait. What is malformed is no wish (RFC 7240 §2)."""
    for preference in parse_http_list(prefer):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not re.fullmatch("[0-9]+", digits):
                return 0
            return min(LONGEST, int(digits)) if len(digits) < 9 else LONGEST
    return 0


async def waited(request: HttpRequest, accepted: HttpResponse) -> None:
    """Make it the accepted run's report, if that ends within the time that the caller gives it.

    Outside of the view: nothing is held while nothing is asked.
    """
    until = monotonic() + seconds_of(request.headers.get("Prefer", ""))
    while monotonic() < until and not followers().draining:
        try:
            ended = await in_thread(partial(_ended, orjson.loads(accepted.content)["run"]))
        except Run.DoesNotExist:
            return  # its conversation was deleted
        if ended:
            accepted.status_code = 200
            accepted.content = rendered(ended)
            accepted.headers["Preference-Applied"] = "wait"
            accepted.headers["Content-Length"] = str(len(accepted.content))
            return
        await asyncio.sleep(min(LOOK, max(0.0, until - monotonic())))


def _ended(run: str) -> Report | None:
    try:
        found = Run.objects.get(pk=run)
        return None if found.live else report(found)
    except DatabaseError:
        return None  # accepted it stays
