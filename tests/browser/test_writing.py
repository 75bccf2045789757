"""Writing with an input method, from right to left, and during a request: what the fields do."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import Route

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.held import hold_responses
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Safari ends a composition before the key that ended it; only the key's code shows this.
COMPOSING = [{"keyCode": 229, "isComposing": False}, {"keyCode": 13, "isComposing": True}]
PRESS = """
([field, key, how]) => document.querySelector(field).dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...how }))
"""


@pytest.mark.parametrize("how", COMPOSING)
async def test_enter_that_confirms_a_composition_sends_nothing(
    reader: Readers, how: dict[str, object]
) -> None:
    one = await reader()
    posted: list[str] = []
    one.page.on("request", lambda sent: posted.append(sent.url) if sent.method == "POST" else None)
    await one.page.fill("#message", "にほん")
    assert await one.page.evaluate(PRESS, ["#message", "Enter", how])  # its default is let be
    assert await one.page.input_value("#message") == "にほん"
    assert posted == []


async def test_a_title_that_is_being_composed_stays_open(reader: Readers) -> None:
    one = await reader()
    await one.begin(script(tokens=2, seed=21))
    await one.wait_for_replies()
    row = ".conversation:has([aria-current])"
    await one.page.hover(row)
    await one.page.click(f"{row} [aria-label^='Rename']")
    await one.page.fill(".rename", "日本")
    for how in COMPOSING:
        for key in ("Enter", "Escape"):
            await one.page.evaluate(PRESS, [".rename", key, how])
            assert await one.page.input_value(".rename") == "日本"
    await one.page.press(".rename", "Enter")
    await wait_for_fact(one.page, "document.getElementById('title').textContent === '日本'")


async def test_right_to_left_text_is_laid_out_right_to_left(reader: Readers) -> None:
    one = await reader()
    await one.page.fill("#message", "مرحبا، كيف الحال؟")
    fact = "s => getComputedStyle(document.querySelector(s)).direction"
    assert await one.page.evaluate(fact, "#message") == "rtl"
    await one.page.press("#message", "Enter")
    await one.wait_for_replies()
    for place in (".said", "#title", ".conversation a[aria-current]"):
        assert await one.page.evaluate(fact, place) == "rtl"


async def test_what_is_typed_while_a_message_is_being_sent_is_sent_next(reader: Readers) -> None:
    one = await reader()
    accepted = await hold_responses(one.page, "**/api/conversations/**", "POST")
    first, second, third = (script(tokens=2, seed=f"next {n}") for n in range(3))
    await one.ask(first)
    await one.ask(second)
    assert await one.page.input_value("#message") == second
    accepted.set()
    await one.page.wait_for_url("**/c/*")
    await one.wait_for_replies(replies=2)
    accepted.clear()
    await one.ask(third)
    await one.page.fill("#message", "half a thought")
    await one.wait_for_replies(replies=3)
    accepted.set()
    await wait_for_fact(one.page, "!document.getElementById('send').disabled")
    await one.page.reload()
    await one.wait_for_replies(replies=3)
    assert await one.page.locator(".said").all_inner_texts() == [first, second, third]
    assert await one.page.input_value("#message") == "half a thought"


def said(*messages: str) -> str:
    """JavaScript that is true if the page shows these messages of the user, sent or pending."""
    shown = "[...document.querySelectorAll('.said')].map((said) => said.textContent)"
    return f"JSON.stringify({shown}) === JSON.stringify({json.dumps(messages)})"


async def test_a_sent_message_that_a_snapshot_brings_is_shown_once(reader: Readers) -> None:
    """The stream opens after the service has accepted the message, and before it responds."""
    first, second = (script(tokens=2, seed=f"snapshot {n}") for n in range(2))
    other = await reader()
    path = await other.begin(first)
    await other.wait_for_replies()
    one = await reader()
    accepted = await hold_responses(one.page, "**/messages/", "POST")
    is_open = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_open.wait()
        await route.continue_()

    await one.page.route("**/events/**", hold)
    await one.page.goto(f"{one.origin}{path}")
    async with one.page.expect_request_finished(lambda request: request.method == "POST"):
        await one.ask(second)
        await wait_for_fact(one.page, said(second))
        is_open.set()
        await one.wait_for_replies(replies=2)
        assert await one.page.evaluate(said(first, second))
        accepted.set()
    assert await one.page.evaluate(said(first, second))


async def test_a_message_that_is_being_sent_is_not_shown_in_another_conversation(
    reader: Readers,
) -> None:
    one = await reader()
    first, second = (script(tokens=2, seed=f"left {n}") for n in range(2))
    path = await one.begin(first)
    await one.wait_for_replies()
    accepted = await hold_responses(one.page, "**/messages/", "POST")
    await one.ask(second)
    await wait_for_fact(one.page, said(first, second))
    await one.page.click("#new")
    assert await one.page.evaluate(said())
    accepted.set()
    await one.page.goto(f"{one.origin}{path}")
    await one.wait_for_replies(replies=2)
    assert await one.page.evaluate(said(first, second))
