"""A demonstration agent on the page: offered, asked, and its tool call opened."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser.conftest import Readers
from tests.support.stack import Stack
from tests.support.stack_fixtures import Stacks

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOOLS = {"AGENTS": "demo-tools=workers.agents.demos.tools.agent"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    """The graph calls tools without a model, so no worker is needed."""
    async with stacks(workers=0, agents=1, also=TOOLS) as stack:
        yield stack


async def test_a_suggestion_asks_an_agent_whose_call_opens_to_input_and_result(
    reader: Readers,
) -> None:
    one = await reader()
    await one.page.get_by_role("button", name="demo-tools").click()
    await one.page.get_by_role("button", name="How does Unspool resume a stream?").click()
    await one.page.click("#send")
    await one.wait_for_replies()
    call = one.page.locator(".call")
    assert await call.get_attribute("data-state") == "done"
    assert await call.locator(".call-name").inner_text() == "search_documents"
    assert await one.page.locator(".parts .source").count() == 3
    await call.locator("summary").click()
    await call.locator(".call-body .tree").nth(1).wait_for()
    body = await call.locator(".call-body").inner_text()
    assert "query: How does Unspool resume a stream?" in body
    assert "source: docs/concepts.md: Cursors" in body
    assert "Cursors" in await one.text()
    parts = await one.page.evaluate("() => document.querySelector('.parts').innerText")
    await one.page.reload()
    await one.wait_for_replies()
    assert "search_documents" in parts
    assert await one.page.locator(".call").get_attribute("data-state") == "done"
    assert (one.seen.errors, await one.violations()) == ([], [])
