"""A finished reply on the page: its facts, and the buttons that choose among replies."""

from __future__ import annotations

import pytest
from playwright.async_api import Route

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_run_whose_look_up_failed_is_looked_up_again(reader: Readers) -> None:
    one = await reader()
    left = ["connectionrefused", "503"]

    async def fail(route: Route) -> None:
        if not left:
            await route.continue_()
        elif (how := left.pop(0)).isdigit():
            await route.fulfill(status=int(how), body="")
        else:
            await route.abort(how)

    await one.page.route("**/api/runs/*/", fail)
    await one.begin(script(tokens=3, seed="looked up"))
    await one.page.locator(".facts").wait_for(state="visible")
    assert left == []


FOCUSED = "() => document.activeElement.getAttribute('aria-label')"


async def test_the_buttons_that_choose_a_reply_stay_and_keep_the_focus(reader: Readers) -> None:
    one = await reader()
    path = await one.begin(script(tokens=3, seed="variants"))
    for count in (2, 3):
        await one.wait_for_replies()
        await one.page.click("[aria-label='Write another reply']")
        await one.page.get_by_text(f"{count} / {count}").wait_for()
    await one.wait_for_replies()
    await one.page.focus("[aria-label='Previous reply']")
    await one.page.evaluate("window.button = document.activeElement")
    other = await reader(path)
    await other.page.hover(".conversation:has([aria-current])")
    await other.page.click(".conversation:has([aria-current]) [aria-label^='Rename']")
    await other.page.fill(".rename", "Renamed in another tab")
    await other.page.press(".rename", "Enter")
    await wait_for_fact(one.page, "document.title.startsWith('Renamed in another tab')")
    await one.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert await one.page.evaluate("window.button === document.activeElement")
    seen = []
    for _ in range(3):
        await one.page.keyboard.press("Enter")
        position = await one.page.inner_text(".variant")
        seen.append((position, await one.page.evaluate(FOCUSED)))
    assert seen == [
        ("2 / 3", "Previous reply"),
        ("1 / 3", "Next reply"),
        ("2 / 3", "Next reply"),
    ]
