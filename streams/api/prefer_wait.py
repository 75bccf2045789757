"""`Prefer: wait` (RFC 7240 §4.3): answers a POST with the whole reply if the run ends in time."""

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
LONGEST = 60  # seconds that a request may wait
LOOK = 0.2  # seconds between two queries for all runs that requests wait for


def seconds_of(prefer: str) -> int:
    """The seconds for which the caller wants to wait; 0 if absent or malformed (RFC 7240 §2)."""
    for preference in parse_http_list(prefer):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not re.fullmatch("[0-9]+", digits):
                return 0
            return min(LONGEST, int(digits)) if len(digits) < 9 else LONGEST
    return 0


async def wait_for_run(request: HttpRequest, accepted: HttpResponse) -> None:
    """Replace the 202 by the run's status, if the run ends within the caller's time.

    It runs outside of the view, so a waiting request holds no thread and no database connection.
    """
    seconds = seconds_of(request.headers.get("Prefer", ""))
    if not seconds:
        return
    run = UUID(orjson.loads(accepted.content)["run"])
    try:
        async with asyncio.timeout(seconds):
            status = await endings(asyncio.get_running_loop()).report_of(run)
    except TimeoutError:
        return
    if status is not None:
        accepted.status_code = 200
        accepted.content = status
        accepted.headers["Preference-Applied"] = "wait"
        accepted.headers["Content-Length"] = str(len(accepted.content))


class Endings:
    """The runs for which the requests of one event loop wait. One query serves all requests."""

    def __init__(self) -> None:
        self._reports: dict[UUID, asyncio.Future[bytes | None]] = {}
        self._callers: Counter[UUID] = Counter()
        self._looking: asyncio.Task[None] | None = None

    async def report_of(self, run: UUID) -> bytes | None:
        """The run's status as JSON once it ends; None if it is deleted or this process ends."""
        report = self._reports.get(run)
        if report is None:
            report = self._reports[run] = asyncio.get_running_loop().create_future()
        self._callers[run] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._poll())
        try:
            return await asyncio.shield(report)  # other requests may wait for the same future
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

    async def _poll(self) -> None:
        while True:
            results: dict[UUID, bytes | None] = dict.fromkeys(self._reports)
            if not open_streams().draining:
                try:
                    results = await in_thread(partial(_ended, list(self._reports)))
                except Exception:
                    logger.exception("the query for runs that have ended failed")
                    results = {}
            for run, status in results.items():
                report = self._reports.get(run)
                if report and not report.done():
                    report.set_result(status)
            await asyncio.sleep(LOOK)


@lru_cache(maxsize=4)
def endings(loop: asyncio.AbstractEventLoop) -> Endings:
    """The instance of this event loop: a web process has one loop, tests have several."""
    return Endings()


def _ended(runs: list[UUID]) -> dict[UUID, bytes | None]:
    """The JSON statuses of those runs that have ended; None for deleted runs."""
    try:
        found = Run.objects.in_bulk(runs)
        return {
            run: dump_json(run_status(found[run])) if run in found else None
            for run in runs
            if run not in found or not found[run].is_active
        }
    except DatabaseError:
        return {}  # the requests still wait, so the next query may answer them
