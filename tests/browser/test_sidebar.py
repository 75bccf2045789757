"""The list of conversations, when it changes while it is fetched or a name is entered in it."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, Response

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.held import hold_responses
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROW = ".conversation:has([aria-current])"


def is_list(response: Response) -> bool:
    return response.url.endswith("/api/conversations/") and response.request.method == "GET"


async def test_a_conversation_that_begins_while_the_list_is_fetched_stays_in_it(
    reader: Readers, session: BrowserContext
) -> None:
    list_is_free = await hold_responses(session, "**/api/conversations/", "GET")
    one = await reader()
    await one.begin(script(tokens=2, seed=51))
    await one.wait_for_replies()
    async with one.page.expect_response(is_list):
        list_is_free.set()
    await one.page.evaluate("() => new Promise((next) => setTimeout(next))")
    assert await one.page.locator(ROW).count() == 1


async def test_a_name_that_is_being_entered_stays_when_the_list_is_fetched(reader: Readers) -> None:
    one = await reader()
    await one.begin(script(tokens=2, seed=52))
    await one.wait_for_replies()
    await one.page.hover(ROW)
    await one.page.click(f"{ROW} [aria-label^='Rename']")
    await one.page.fill(".rename", "Half a name")
    async with one.page.expect_response(is_list):
        await one.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await one.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert await one.page.input_value(".rename") == "Half a name"
    await one.page.press(".rename", "Enter")
    await wait_for_fact(one.page, "document.getElementById('title').textContent === 'Half a name'")
