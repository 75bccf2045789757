"""A finished reply on the page: its facts, and the buttons that choose among replies."""

from __future__ import annotations

import pytest
from playwright.async_api import Route

from tests.browser.conftest import Readers
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
