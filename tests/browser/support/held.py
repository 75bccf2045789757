"""Responses that a test holds back, so that what is usually later comes first."""

from __future__ import annotations

import asyncio

from playwright.async_api import BrowserContext, Page, Route


async def hold_responses(place: BrowserContext | Page, url: str, method: str) -> asyncio.Event:
    """Hold the responses to these requests whenever the returned event is not set."""
    is_free = asyncio.Event()

    async def answer(route: Route) -> None:
        if route.request.method != method:
            return await route.continue_()
        response = await route.fetch()
        await is_free.wait()
        await route.fulfill(response=response)

    await place.route(url, answer)
    return is_free
