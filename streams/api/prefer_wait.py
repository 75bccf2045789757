"""`Prefer: wait` (RFC 7240 §4.3): answering a POST with the whole reply, if it ends in time."""

import asyncio
import logging
import re
from collections import Counter
from functools import lru_cache, partial
from urllib.request import parse_http_list
from uuid import UUID

import orjson
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from streams.api.json import dump_json
from streams.chat.run_status import run_status
from streams.delivery.open_streams import open_streams
from streams.delivery.threads import in_thread
from streams.models import Run

logger = logging.getLogger(__name__)
LONGEST = 60  # seconds
LOOK = 0.2  # seconds between looks at the rows of all runs that are waited for


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


async def wait_for_run(request: HttpRequest, accepted: HttpResponse) -> None:
    """Make it the accepted run's report, if that ends within the time that the caller gives it.

    Outside of the view: nothing is held while nothing is asked.
    """
    seconds = seconds_of(request.headers.get("Prefer", ""))
    if not seconds:
        return
    run = UUID(orjson.loads(accepted.content)["run"])
    try:
        async with asyncio.timeout(seconds):
            ended = await endings(asyncio.get_running_loop()).report_of(run)
    except TimeoutError:
        return
    if ended is not None:
        accepted.status_code = 200
        accepted.content = ended
        accepted.headers["Preference-Applied"] = "wait"
        accepted.headers["Content-Length"] = str(len(accepted.content))


class Endings:
    """The runs whose ending callers wait for, in one event loop. One look serves all of them."""

    def __init__(self) -> None:
        self._reports: dict[UUID, asyncio.Future[bytes | None]] = {}
        self._callers: Counter[UUID] = Counter()
        self._looking: asyncio.Task[None] | None = None

    async def report_of(self, run: UUID) -> bytes | None:
        """The run's report once it has ended; None where it was deleted, or this process ends."""
        report = self._reports.get(run)
        if report is None:
            report = self._reports[run] = asyncio.get_running_loop().create_future()
        self._callers[run] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            return await asyncio.shield(report)  # others wait for it, too
        finally:
            self._leave(run, report)

    def _leave(self, run: UUID, report: asyncio.Future[bytes | None]) -> None:
        self._callers[run] -= 1
        if not self._callers[run]:
            del self._callers[run], self._reports[run]
            report.cancel()
        if not self._callers and self._looking:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        while True:
            over: dict[UUID, bytes | None] = dict.fromkeys(self._reports)
            if not open_streams().draining:
                try:
                    over = await in_thread(partial(_ended, list(self._reports)))
                except Exception:
                    logger.exception("looking whether runs have ended")
                    over = {}
            for run, ended in over.items():
                waiting = self._reports.get(run)
                if waiting and not waiting.done():
                    waiting.set_result(ended)
            await asyncio.sleep(LOOK)


@lru_cache(maxsize=4)
def endings(loop: asyncio.AbstractEventLoop) -> Endings:
    """This loop's: a web process has one loop, tests have several."""
    return Endings()


def _ended(runs: list[UUID]) -> dict[UUID, bytes | None]:
    """The reports of those that have ended; None for those that were deleted."""
    try:
        found = Run.objects.in_bulk(runs)
        return {
            run: dump_json(run_status(found[run])) if run in found else None
            for run in runs
            if run not in found or not found[run].is_active
        }
    except DatabaseError:
        return {}  # accepted they stay
