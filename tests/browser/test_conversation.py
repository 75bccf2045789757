"""The actions of a user at the page: ask, read, reload, cancel, retry, delete."""

from __future__ import annotations

import asyncio
import random

import pytest
from playwright.async_api import Browser, Route

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.faults.conftest import Size
from tests.support.script import expected
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = 100_000  # tokens: a reply that lasts until it is cancelled


async def test_a_question_is_answered_and_its_statistics_are_shown(reader: Readers) -> None:
    one = await reader()
    asked = script(tokens=60, rate=25, seed=1)
    await one.begin(asked)
    await one.wait_for_replies()
    assert await one.text() == expected(asked).strip()
    facts = one.page.locator(".facts").last
    await facts.wait_for(state="visible")
    words = await facts.inner_text()
    for label in ("Model", "Attempt", "First token", "Speed", "Tokens"):
        assert label in words, words
    assert one.seen.errors == []


async def test_reloading_at_any_moment_resumes_and_ends_with_the_same_text(
    reader: Readers, chance: random.Random, size: Size[int]
) -> None:
    one = await reader()
    asked = script(tokens=400, rate=25, seed=2)
    await one.begin(asked)
    for _ in range(size(20, 40)):
        await one.wait_for_length(1)
        before = await one.text()
        await one.page.wait_for_timeout(chance.uniform(0, 600))
        await one.page.reload()
        await one.wait_for_length(1)
        # The typing does not start again: the whole text is there at once.
        assert (await one.text()).startswith(before.rstrip()[:-1])
    await one.wait_for_replies()
    assert await one.text() == expected(asked).strip()
    assert (await one.run())["text"] == expected(asked)


async def test_two_tabs_and_a_phone_show_the_same_text_and_title(
    reader: Readers, browser: Browser
) -> None:
    first = await reader()
    asked = script(tokens=60, rate=30, seed=3)
    path = await first.begin(asked)
    second = await reader(path)
    state = await first.page.context.storage_state()
    phone = await browser.new_context(
        viewport={"width": 390, "height": 780}, is_mobile=True, has_touch=True, storage_state=state
    )
    third = await reader(path, phone)
    await first.page.hover(".conversation:has([aria-current])")
    await first.page.click(".conversation:has([aria-current]) [aria-label^='Rename']")
    await first.page.fill(".rename", "A name of its own")
    await first.page.press(".rename", "Enter")
    for one in (first, second, third):
        await one.wait_for_replies()
        assert await one.text() == expected(asked).strip()
        await wait_for_fact(
            one.page, "document.getElementById('title').textContent === 'A name of its own'"
        )
    await phone.close()


async def test_a_run_that_began_elsewhere_appears_by_itself(reader: Readers) -> None:
    first = await reader()
    path = await first.begin(script(tokens=3, seed=4))
    await first.wait_for_replies()
    second = await reader(path)
    await second.wait_for_replies()
    more = script(tokens=20, rate=40, seed=5)
    await first.ask(more)
    await second.wait_for_replies(replies=2)
    assert await second.text() == expected(more).strip()


async def test_stop_in_one_tab_stops_in_all_and_keeps_the_text(reader: Readers) -> None:
    first = await reader()
    path = await first.begin(script(tokens=LONG, rate=40, seed=6))
    second = await reader(path)
    await second.wait_for_length(40)
    await second.page.click("#stop")
    await first.wait_for_replies()
    await second.wait_for_replies()
    run = await second.run()
    assert run["status"] == "cancelled"
    assert await first.text() == await second.text() == run["text"].strip()
    assert "Stopped" in await first.page.inner_text(".shortfall")


async def test_another_reply_leaves_the_earlier_one_readable(reader: Readers) -> None:
    one = await reader()
    asked = script(tokens=10, rate=40, seed=7)
    await one.begin(asked)
    await one.wait_for_replies()
    await one.page.click("[aria-label='Write another reply']")
    await one.page.get_by_text("2 / 2").wait_for()
    await one.wait_for_replies()
    await one.page.click("[aria-label='Previous reply']")
    await one.page.get_by_text("1 / 2").wait_for()
    assert await one.text() == expected(asked).strip()
    await one.page.reload()
    await one.page.get_by_text("2 / 2").wait_for()


async def test_a_message_written_during_a_reply_waits_its_turn(reader: Readers) -> None:
    one = await reader()
    await one.begin(script(tokens=40, rate=30, seed=8))
    await one.wait_for_length(10)
    second = script(tokens=5, seed=9)
    await one.ask(second)
    await wait_for_fact(one.page, "document.querySelectorAll('.said').length === 2")
    await one.wait_for_replies(replies=2)
    assert await one.text() == expected(second).strip()


async def test_a_message_just_sent_is_never_shown_twice(reader: Readers) -> None:
    one = await reader()
    await one.begin(script(tokens=2, seed=13))
    await one.wait_for_replies()
    await one.watch("document.querySelectorAll('.said').length")
    await one.page.route("**/messages/", late)  # the stream publishes it first
    await one.ask(script(tokens=2, seed=14))
    await one.wait_for_replies(replies=2)
    assert set(await one.page.evaluate("window.painted")) == {1, 2}


async def late(route: Route) -> None:
    answer = await route.fetch()
    await asyncio.sleep(0.3)
    await route.fulfill(response=answer)


async def test_a_failed_reply_shows_its_reason_and_can_be_retried(reader: Readers) -> None:
    one = await reader()
    asked = script(tokens=3, fault=401, times=1, seed=10)
    await one.begin(asked)
    await one.page.get_by_role("button", name="Try again").wait_for(timeout=60_000)
    reason = await one.page.inner_text(".shortfall")
    await one.page.evaluate("localStorage.clear()")  # as in another browser
    await one.page.reload()
    await one.page.get_by_role("button", name="Try again").wait_for()
    assert await one.page.inner_text(".shortfall") == reason
    await one.page.get_by_role("button", name="Try again").click()
    await one.wait_for_length(len(expected(asked).strip()))
    await one.wait_for_replies()
    assert await one.text() == expected(asked).strip()
    assert await one.page.locator(".said, .reply").count() == 2
    assert await one.page.get_by_role("button", name="Try again").is_hidden()


async def test_a_draft_is_kept_for_each_conversation(reader: Readers) -> None:
    one = await reader()
    path = await one.begin(script(tokens=1, seed=11))
    await one.wait_for_replies()
    await one.page.fill("#message", "half a thought")
    await one.page.click("#new")
    assert await one.page.input_value("#message") == ""
    await one.page.fill("#message", "another")
    await one.page.goto(f"{one.origin}{path}")
    assert await one.page.input_value("#message") == "half a thought"


async def test_conversations_are_found_and_deleted_by_keyboard_alone(reader: Readers) -> None:
    one = await reader()
    for name in ("First words", "Other matters"):
        await one.page.keyboard.press("ControlOrMeta+k")
        await one.page.evaluate("document.getElementById('new').focus()")
        await one.page.keyboard.press("Enter")
        await one.page.keyboard.type(name)
        await one.page.keyboard.press("Enter")
        await one.page.wait_for_url("**/c/*")
        await one.wait_for_replies()
    await one.page.keyboard.press("ControlOrMeta+k")
    await one.page.keyboard.type("first")
    await wait_for_fact(one.page, "document.querySelectorAll('.conversation').length === 1")
    await one.page.keyboard.press("Tab")
    await one.page.keyboard.press("Delete")
    await one.page.locator("dialog[open]").wait_for()
    await one.page.keyboard.press("Tab")
    await one.page.keyboard.press("Enter")
    await wait_for_fact(one.page, "document.querySelectorAll('.conversation').length === 0")
    await one.page.reload()
    await one.page.get_by_role("link", name="Other matters").wait_for()
    assert await one.page.get_by_role("link", name="First words").count() == 0


async def test_the_system_prompt_of_a_new_conversation_reaches_the_model(reader: Readers) -> None:
    one = await reader()
    await one.page.click(".composer-system summary")
    await one.page.fill("#system", "Answer like a tailor.")
    await one.begin("How are you?")
    await one.wait_for_replies()
    await one.page.click(".instructions summary")
    assert await one.page.inner_text(".instructions-text") == "Answer like a tailor."


async def test_a_conversation_of_another_visitor_is_not_found(
    reader: Readers, browser: Browser
) -> None:
    path = await (await reader()).begin(script(tokens=1, seed=12))
    stranger = await browser.new_context()
    other = await reader(path, stranger)
    await other.page.locator("#gone").wait_for(state="visible", timeout=20_000)
    assert await other.page.locator(".said").count() == 0
    await stranger.close()


async def test_a_long_conversation_opens_at_its_end_and_loads_earlier_pages_on_demand(
    reader: Readers,
) -> None:
    one = await reader()
    path = await one.begin(script(tokens=1, seed="first"))
    await one.wait_for_replies()
    await one.page.evaluate(
        """async (id) => {
          const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
          const headers = { "X-CSRFToken": token, "Content-Type": "application/json",
            Prefer: "wait=30" };
          for (let n = 0; n < 52; n += 1) {
            const body = JSON.stringify({ message: JSON.stringify({ tokens: 1, seed: n }) });
            await fetch(`/api/conversations/${id}/messages/`, { method: "POST", headers, body });
          }
        }""",
        path.removeprefix("/c/"),
    )
    await one.page.reload()
    await wait_for_fact(one.page, "document.querySelectorAll('.said').length === 50")
    await one.page.get_by_role("button", name="Show earlier messages").click()
    await wait_for_fact(one.page, "document.querySelectorAll('.said').length === 53")
    assert script(tokens=1, seed="first") == await one.page.locator(".said").first.inner_text()
    assert await one.page.locator(".reply").count() == 53
