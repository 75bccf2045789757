"""The browser's own WebSocket: the example of docs/dialects.md, on the service's page."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import BrowserContext

from tests.browser.support.chromium import wait_for_fact
from tests.support.ports import HOST
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
from tests.support.stack import Stack
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGE = (CHECKOUT / "docs/dialects.md").read_text().partition("## WebSocket")[2]
BEGIN = """async (message) => {
    const token = document.cookie.match(/csrftoken=([^;]+)/)[1]
    const headers = { 'X-CSRFToken': token, 'Content-Type': 'application/json' }
    const body = JSON.stringify({ message })
    const answer = await fetch('/api/conversations/', { method: 'POST', headers, body })
    return (await answer.json()).conversation
}"""
REOPENED = "window.socket() !== window.cut && window.socket().readyState === WebSocket.OPEN"
FIRST, SECOND = script(tokens=100, rate=40), script(tokens=40, rate=40, seed=3)


def example(origin: str) -> str:
    """A function that runs the example for a conversation, with its text in `window.text`."""
    found = re.search(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    code = found[1].replace("wss://chat.example.org", f"ws://{origin}")
    return f"""(id) => {{
        window.text = ''
        const show = (more) => {{ window.text += more }}
        {code}
        window.send = send
        window.socket = () => socket
    }}"""


async def test_a_page_follows_and_asks_over_a_socket_that_is_cut(
    service: Stack, session: BrowserContext
) -> None:
    async with Proxy((HOST, service.ports[service.web.name])) as proxy:
        origin = f"{HOST}:{proxy.port}"
        page = await session.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"http://{origin}/")
        conversation = await page.evaluate(BEGIN, FIRST)
        await page.evaluate(example(origin), conversation)
        for length in (100, 300):
            await wait_for_fact(page, "(length) => window.text.length > length", length)
            await page.evaluate("window.cut = window.socket()")
            proxy.reset()
            await wait_for_fact(page, REOPENED)
        whole = expected(FIRST)
        await wait_for_fact(page, "(whole) => window.text === whole", whole, within=30)
        # The run ends a moment after the last of its text.
        data = {"message": SECOND, "when_busy": "queue"}
        await page.evaluate("(data) => window.send('m1', 'message', data)", data)
        whole += expected(SECOND)
        await wait_for_fact(page, "(whole) => window.text === whole", whole, within=30)
        assert errors == []


async def serve_page(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
    """A page of another origin, without a policy."""
    await reading.readuntil(b"\r\n\r\n")
    writing.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>")
    writing.close()


async def test_a_page_of_another_origin_is_refused(service: Stack, session: BrowserContext) -> None:
    place = f"{HOST}:{service.ports[service.web.name]}"
    page = await session.new_page()
    await page.goto(f"http://{place}/")
    conversation = await page.evaluate(BEGIN, script(tokens=2))
    server = await asyncio.start_server(serve_page, HOST)
    port = server.sockets[0].getsockname()[1]
    other = await session.new_page()
    await other.goto(f"http://{HOST}:{port}/")  # of the same site, so it has the cookies
    closed = await other.evaluate(
        """(url) => new Promise((done) => {
            const frames = []
            const socket = new WebSocket(url)
            socket.onmessage = ({ data }) => frames.push(JSON.parse(data))
            socket.onclose = ({ code }) => done([code, frames[0]?.data.problem.code])
        })""",
        f"ws://{place}/api/conversations/{conversation}/socket/",
    )
    server.close()
    assert closed == [4403, "csrf_failed"]
