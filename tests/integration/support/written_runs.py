"""Runs that a thread of the test process writes, as a thread of a worker does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from django.db import connection

from streams.models import Run
from tests.support.openai_server import serving
from workers.run_attempt import generate
from workers.runtime import Runtime


def write_in_thread(run: Run, process: Runtime) -> threading.Thread:
    """Start a thread that writes the run. The caller joins it."""

    def write() -> None:
        try:
            generate(run.id, process)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@contextmanager
def worker_process(settings: Any) -> Iterator[Runtime]:
    """A worker's shared parts, and a scripted model for it."""
    settings.EMBEDDED_MODEL = False
    settings.LEASE_CHECK_INTERVAL = 0.1
    settings.SWEEP_INTERVAL = 3600
    with serving() as model:
        settings.OPENAI_BASE_URL = model.url
        running = Runtime()
        try:
            yield running
        finally:
            running.close()


def until(is_true: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until a condition is true. Fails if it is not true in time."""
    deadline = monotonic() + seconds
    while not is_true():
        assert monotonic() < deadline, "it did not come true in time"
        sleep(0.01)
