"""A small page of useChat in Chromium ends with what is stored: reloaded, cut, stopped, failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from tests.browser.support.chromium import chromium
from tests.dialects.conftest import Installed
from tests.support.ai_sdk import PACKAGES
from tests.support.chat_page import BUNDLER, ChatPage, bundle
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def page_script(installed: Installed) -> Path:
    return bundle(installed({**PACKAGES["7"], **BUNDLER}))


@pytest_asyncio.fixture(loop_scope="session")
async def context() -> AsyncIterator[BrowserContext]:
    async with chromium() as browser:
        yield await browser.new_context()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    async with Proxy((HOST, stack.ports[stack.web.name])) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext, page_script: Path, proxy: Proxy) -> ChatPage:
    return await ChatPage.open(context, page_script, proxy.port)


async def test_a_page_that_is_reloaded_in_mid_reply_ends_with_the_stored_one(
    page: ChatPage, stack: Stack
) -> None:
    first, second = script(tokens=100, seed=1, hold_at=50), script(tokens=100, seed=2, rate=30)
    await page.ask(first)
    await page.wait_for_text(100)
    for _ in range(2):
        await page.page.reload()
        await page.wait_for_text(100)
        assert (await page.shown())[-1]["text"] != expected(first)
    stack.model.release(first)
    await page.wait_for_status("ready")
    assert await page.check() == expected(first)
    await page.ask(second)
    await page.wait_for("() => document.querySelectorAll('.assistant').length === 2")
    await page.wait_for_status("ready")
    assert await page.check() == expected(second)
    await page.page.reload()
    await page.wait_for("() => document.querySelectorAll('.assistant').length === 2")
    await page.wait_for_status("ready")
    assert await page.check() == expected(second)


async def test_a_page_whose_network_is_cut_ends_with_the_stored_reply(
    page: ChatPage, proxy: Proxy, stack: Stack
) -> None:
    asked = script(tokens=150, seed=3, rate=30, hold_at=120)
    await page.ask(asked)
    for count in (100, 300, 500):
        await page.wait_for_text(count)
        proxy.reset()
    await page.wait_for_text(700)
    proxy.refuse()
    proxy.reset()
    await page.wait_for_status("error")
    await proxy.accept()
    stack.model.release(asked)
    await page.wait_for_text(len(expected(asked)))
    await page.wait_for_status("ready")
    assert await page.check() == expected(asked)


async def test_a_page_that_was_offline_when_the_reply_ended_gets_the_whole_of_it(
    page: ChatPage, proxy: Proxy, stack: Stack
) -> None:
    asked = script(tokens=60, seed=4, rate=30)
    await page.ask(asked)
    await page.wait_for_text(100)
    proxy.refuse()
    proxy.reset()
    run = (await page.shown())[-1]["id"]
    await stack.worker.wait_for_log(f"run {run} attempt 1 completed", within=30)
    await proxy.accept()
    await page.wait_for_text(len(expected(asked)))
    await page.wait_for_status("ready")
    assert await page.check() == expected(asked)


async def test_a_stopped_reply_keeps_its_text(page: ChatPage) -> None:
    await page.ask(script(tokens=10_000, seed=5, rate=30))
    await page.wait_for_text(100)
    await page.stop()
    await page.wait_for_status("ready")
    assert len(await page.check()) >= 100


async def test_a_failed_reply_keeps_its_text_and_says_why(page: ChatPage) -> None:
    await page.ask(script(tokens=30, seed=6, fault="error", fault_at=20))
    await page.wait_for_status("error")
    assert await page.error() == "The model had an error of its own."
    assert len(await page.check()) >= 100
