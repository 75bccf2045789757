"""A real browser: Debian's Chromium, driven by Playwright, without any foreign requests."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


POLL_INTERVAL = 0.02  # seconds


async def wait_for_fact(page: Page, fact: str, arg: Any = None, *, within: float = 10.0) -> None:
    """Wait until this JavaScript is true on the page; raises TimeoutError after `within` seconds.

    Playwright's own waiting evaluates strings inside the page, which the page's policy forbids.
    """
    deadline = time.monotonic() + within
    while not await page.evaluate(fact, arg):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {fact}")
        await asyncio.sleep(POLL_INTERVAL)
