"""Fixtures of the browser tests: one browser and one service for each test process, and readers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.support.chromium import chromium
from tests.browser.support.modules import modules
from tests.browser.support.reader import Reader, Readers
from tests.browser.support.scripted import Scripted
from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.stack_fixtures import Stacks, chance, database, shared_stack, size, stacks

__all__ = ["Readers", "chance", "database", "size", "stacks"]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    async with shared_stack(stacks) as stack:
        yield stack


async def close(context: BrowserContext) -> None:
    """Close the profile. A request that a test still holds back must not fail the next test."""
    routed: list[BrowserContext | Page] = [context, *context.pages]
    for one in routed:
        await one.unroute_all(behavior="ignoreErrors")
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def session(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A new browser profile, with one visitor's cookies, tabs and storage."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    await close(context)


@pytest_asyncio.fixture(loop_scope="session")
async def reader(service: Stack, session: BrowserContext) -> Readers:
    """`await reader("/c/…")` opens one more tab of this session at the service."""
    origin = f"http://{HOST}:{service.ports[service.web.name]}"

    async def one(path: str = "/", context: BrowserContext | None = None) -> Reader:
        return await Reader.at(context or session, origin, path)

    return one


@pytest_asyncio.fixture(loop_scope="session")
async def bare(browser: Browser) -> AsyncIterator[Page]:
    """The page's modules alone, without the service."""
    page = await modules(browser)
    yield page
    await close(page.context)


@pytest_asyncio.fixture(loop_scope="session")
async def story() -> AsyncIterator[Scripted]:
    """A conversation that the test writes."""
    one = Scripted()
    yield one
    await one.close()
