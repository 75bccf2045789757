"""Waiting for facts, never for time alone, and never for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL = 0.02  # seconds; short beside everything that is measured with it


async def until(fact: Callable[[], T], *, within: float, what: str) -> T:
    """What `fact` gives as soon as it is true; raises TimeoutError, naming it, after `within`."""
    deadline = time.monotonic() + within
    while True:
        if seen := fact():
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        await asyncio.sleep(POLL_INTERVAL)
