"""The first screen offers agents beside models, each with what it may be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Route

from tests.browser.conftest import Readers
from tests.browser.support.axe import findings
from tests.browser.support.chromium import wait_for_fact

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_first_screen_offers_agents_and_their_ideas(
    reader: Readers, session: BrowserContext
) -> None:
    models = {
        "items": [
            {"id": "small", "kind": "model"},
            {"id": "plain"},
            {"id": "desk", "kind": "agent", "suggestions": ["What time is it in Lima?"]},
            {"id": "chain", "kind": "agent"},
        ],
        "default": "small",
    }

    async def answer(route: Route) -> None:
        await route.fulfill(body=json.dumps(models), content_type="application/json")

    await session.route("**/api/models/", answer)
    one = await reader()
    desk = one.page.get_by_role("group", name="Agents").get_by_role("button", name="desk")
    await desk.wait_for()
    groups = await one.page.eval_on_selector_all(
        "#model optgroup", "all => all.map(g => [g.label, ...[...g.children].map(o => o.value)])"
    )
    assert groups == [["Models", "small", "plain"], ["Agents", "desk", "chain"]]
    usual = await one.page.locator("#ideas button").count()
    await desk.click()
    assert await one.page.input_value("#model") == "desk"
    assert await desk.get_attribute("aria-pressed") == "true"
    assert await one.page.locator("#ideas button").all_inner_texts() == ["What time is it in Lima?"]
    assert await findings(one) == []
    await one.page.click("#ideas button")
    assert await one.page.input_value("#message") == "What time is it in Lima?"
    await desk.click()
    assert await one.page.input_value("#model") == "small"
    assert await one.page.locator("#ideas button").count() == usual
    await one.page.select_option("#model", "chain")
    pressed = one.page.locator("#agents [aria-pressed=true]")
    assert await pressed.all_inner_texts() == ["chain"]
    sent: list[Any] = []
    one.page.on(
        "request",
        lambda asked: sent.append(asked.post_data_json) if asked.method == "POST" else None,
    )
    await one.ask("Hello")
    await wait_for_fact(one.page, "document.getElementById('refusal').hidden === false")
    assert [body["model"] for body in sent] == ["chain"]
