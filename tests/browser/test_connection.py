"""The page over lost connections: the state that it shows, and the text afterwards."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.reader import Reader
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")


def endless(seed: int) -> str:
    """A reply that is still being written when the test stops it, however long the test takes."""
    return script(tokens=20_000, rate=20, seed=seed)


async def nothing_was_lost(one: Reader, asked: str) -> None:
    """Stop the reply, and compare it with what is stored."""
    await one.page.click("#stop")
    await one.wait_for_replies()
    stored = (await one.run())["text"]
    assert await one.text() == stored.strip()
    assert stored
    assert expected(asked).startswith(stored)
    facts = await one.facts()
    assert facts["Gaps, repeats"] == "0, 0", facts
    await wait_for_fact(
        one.page,
        "[...document.querySelectorAll('#facts dd')].some(dd => dd.textContent === '1 of 1')",
    )


async def test_the_page_survives_a_killed_and_restarted_server(
    reader: Readers, service: Stack
) -> None:
    one = await reader()
    asked = endless(seed=21)
    await one.begin(asked)
    for _ in range(2):
        await one.wait_for_state("live")
        before = len(await one.text())
        service.web.kill()
        await one.wait_for_state("reconnecting")
        service.web.start()
        await service.ready(service.web)
        await one.wait_for_state("back", "live")
        await one.wait_for_length(before + 1)
    await nothing_was_lost(one, asked)


async def test_the_page_shows_offline_and_loses_nothing_when_back(reader: Readers) -> None:
    one = await reader()
    asked = endless(seed=22)
    await one.begin(asked)
    await one.wait_for_length(20)
    await one.page.context.set_offline(True)
    await one.wait_for_state("offline")
    await one.page.fill("#message", "written in a tunnel")
    await one.page.press("#message", "Enter")
    await one.page.locator("#refusal").wait_for(state="visible")
    assert await one.page.input_value("#message") == "written in a tunnel"
    await one.page.context.set_offline(False)
    await one.wait_for_state("back", "live")
    await nothing_was_lost(one, asked)


async def test_the_button_that_cuts_the_connection_loses_no_text(reader: Readers) -> None:
    one = await reader()
    asked = endless(seed=23)
    await one.begin(asked)
    await one.wait_for_length(20)
    await one.page.click("#connection")
    await one.page.click("#cut")
    await one.wait_for_state("cut")
    before = await one.text()
    await one.wait_for_state("back")
    await one.page.locator("#verdict", has_text="none missing, none twice").wait_for()
    assert len(await one.text()) > len(before)
    await nothing_was_lost(one, asked)


async def test_seven_tabs_are_all_served(reader: Readers) -> None:
    first = await reader()
    asked = script(tokens=120, rate=15, seed=24)
    path = await first.begin(asked)
    tabs = [first, *[await reader(path) for _ in range(6)]]
    for one in tabs:
        await one.wait_for_replies()
        assert await one.text() == expected(asked).strip()
    states = [await one.state() for one in tabs]
    assert states.count("sharing") == 3, states
