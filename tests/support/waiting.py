"""Waits until a fact is true, for a limited time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL = 0.02  # seconds; short compared with all times that are measured with it


async def until(fact: Callable[[], T], *, within: float, what: str) -> T:
    """Wait until `fact` returns a true value, and return it. Raises TimeoutError after `within`."""
    deadline = time.monotonic() + within
    while True:
        if seen := fact():
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        await asyncio.sleep(POLL_INTERVAL)
