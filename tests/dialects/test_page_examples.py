"""docs/dialects.md: the examples for pages, as they stand there, in Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from tests.browser.support.chromium import chromium, wait_for_fact
from tests.dialects.conftest import Installed
from tests.support.ai_sdk import PACKAGES
from tests.support.chat_page import BUNDLER, ChatPage, bundle
from tests.support.ports import HOST
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")
DOCUMENT = (CHECKOUT / "docs/dialects.md").read_text()
ASKED = script(tokens=60, rate=30)
CUTS = ((900, True), (400, False), (1_500, True))  # bytes of a response, and whether by RST
# What the example leaves to the page: the names that it is given, and what is shown.
GIVEN = """
import { createElement as h } from 'react'
import { createRoot } from 'react-dom/client'
const id = new URLSearchParams(location.search).get('chat')
const csrftoken = document.cookie.match(/csrftoken=([^;]+)/)[1]
const found = await fetch(`/api/chat/${id}/messages`)
const earlier = found.ok ? await found.json() : []
"""
SHOWN = """
  const text = (one) => one.parts.map((part) => part.text).join('')
  const ask = (event) => event.key === 'Enter' && sendMessage({ text: event.target.value })
  return h('main', null,
    messages.map((one) => {
      return h('article', { key: one.id, id: one.id, className: one.role }, text(one))
    }),
    h('input', { onKeyDown: ask }))
"""


def example(wire: str) -> str:
    """The first example in JavaScript for this wire."""
    found = re.search(r"^```js\n(.*?)^```$", DOCUMENT.partition(f"\n## {wire}")[2], re.M | re.S)
    assert found
    return found[1]


@pytest_asyncio.fixture(loop_scope="session")
async def context() -> AsyncIterator[BrowserContext]:
    async with chromium() as browser:
        yield await browser.new_context()


async def test_a_page_of_use_chat_shows_the_reply_and_resumes_when_it_is_reloaded(
    context: BrowserContext, stack: Stack, installed: Installed, tmp_path: Path
) -> None:
    above, use, hook = example("AI SDK").partition("const { messages")
    imports, headers, rest = above.partition("const headers")
    source = tmp_path / "example.mjs"
    source.write_text(
        f"{imports}{GIVEN}{headers}{rest}function Chat() {{\n{use}{hook}{SHOWN}}}\n"
        "createRoot(document.body).render(h(Chat))\n"
    )
    made = bundle(installed({**PACKAGES["7"], **BUNDLER}), source)
    page = await ChatPage.open(context, made, stack.ports[stack.web.name])
    await page.ask(ASKED)
    await page.wait_for_text(20)
    await page.page.reload()
    await page.wait_for_text(len(expected(ASKED)))
    assert await page.check() == expected(ASKED)


async def test_the_socket_of_a_page_goes_on_where_it_was_cut(
    context: BrowserContext, stack: Stack
) -> None:
    async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        page = await context.new_page()
        await page.goto(f"http://{HOST}:{proxy.port}/")
        asked = await page.evaluate(
            """async (message) => {
              const csrftoken = document.cookie.match(/csrftoken=([^;]+)/)[1]
              const headers = { 'Content-Type': 'application/json', 'X-CSRFToken': csrftoken }
              const body = JSON.stringify({ message })
              const made = await fetch('/api/conversations/', { method: 'POST', headers, body })
              return made.json()
            }""",
            ASKED,
        )
        for cut, reset in CUTS:
            proxy.cut_next_answer_after(cut, reset=reset)
        code = example("WebSocket").replace("wss://chat.example.org", f"ws://{HOST}:{proxy.port}")
        given = f"const id = {json.dumps(asked['conversation'])}\nwindow.shown = ''\n"
        shows = "const show = (text) => { window.shown += text }\nwindow.send = send\n"
        await page.evaluate(f"() => {{\n{given}{code}{shows}}}\n")
        count = "n => window.shown.length >= n"
        await wait_for_fact(page, count, len(expected(ASKED)), within=60)
        assert await page.evaluate("window.shown") == expected(ASKED)
        await page.evaluate("window.send('m1', 'message', { message: 'What is a river?' })")
        both = expected(ASKED) + expected("What is a river?")
        await wait_for_fact(page, count, len(both), within=60)
        assert await page.evaluate("window.shown") == both
