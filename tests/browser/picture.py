"""Makes the README's picture: the page with a reply in which an agent has called a tool.

    python -m tests.browser.picture [docs/page.png]

It starts the service as the browser tests do and asks the demonstration `demo-tools`, whose reply
comes from the project's own documents. So the picture is the same wherever it is made.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, ViewportSize

from tests.browser.support.chromium import chromium
from tests.browser.support.reader import Reader
from tests.support.databases import migrated
from tests.support.ports import HOST
from tests.support.stack import Stack

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "page.png"
MOST_BYTES = 120 * 1024
SIZE = ViewportSize(width=960, height=840)
TOOLS = {"AGENTS": "demo-tools=workers.agents.demos.tools.agent"}
EARLIER = ("What is 12.5 % of 384?", "What is 90 * 40?")
QUESTION = "How does Unspool resume a stream?"


async def ask(reader: Reader, question: str) -> None:
    """Ask the agent in a new conversation, and wait for the reply."""
    await reader.page.goto(f"{reader.origin}/")
    await reader.page.select_option("#model", "demo-tools")
    await reader.ask(question)
    await reader.wait_for_replies()


async def take(page: Page, path: Path) -> None:
    """Take the picture of the conversation, with its call open."""
    await page.locator(".facts").wait_for()
    await page.locator(".call summary").click()
    await page.locator(".call-body .tree").nth(1).wait_for()
    await page.mouse.move(0, 0)
    await page.evaluate("document.activeElement.blur()")
    await page.evaluate("document.getElementById('scroll').scrollTop = 0")
    await page.screenshot(path=path)


async def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as place, migrated(Path(place) / "migrated") as database:
        stacks = Stack(Path(place) / "stack", database, workers=0, agents=1, also=TOOLS)
        async with stacks as stack, chromium() as browser:
            session = await browser.new_context(viewport=SIZE, color_scheme="light")
            reader = await Reader.at(session, f"http://{HOST}:{stack.ports[stack.web.name]}")
            for question in (*EARLIER, QUESTION):
                await ask(reader, question)
            await reader.wait_for_state("live")
            await take(reader.page, path)
            await session.close()
    length = path.stat().st_size
    print(f"{path}: {length:,} bytes")
    if length > MOST_BYTES:
        raise SystemExit(f"The picture is heavier than {MOST_BYTES:,} bytes.")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE))
