"""Makes the README's picture: the page with a reply in which an agent has called tools.

    python -m tests.browser.picture [docs/page.png]

It starts the service as the browser tests do. The reply is scripted, so the picture is the same
wherever it is made.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from playwright.async_api import BrowserContext, Page, ViewportSize

from streams.protocol.parts import (
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.browser.support.chromium import chromium
from tests.browser.support.reader import Reader
from tests.browser.support.scripted import Scripted
from tests.support.databases import migrated
from tests.support.ports import HOST
from tests.support.stack import Stack

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "page.png"
MOST_BYTES = 120 * 1024
SIZE = ViewportSize(width=960, height=800)
JSON = "application/json"

QUESTION = "What does a reader miss in a tunnel of 90 seconds?"
TITLE = "A tunnel of 90 seconds"
BEFORE = "I look it up, and count the tokens that are written meanwhile."
AFTER = """Nothing. The page keeps the **id of the last event** that it received. At 40 tokens a \
second about **3,600 tokens** wait in the log:

1. The page connects again, with its last id.
2. The service sends each later event once, in order.
"""
SEARCH = ToolCallPart(
    call="1", name="search_documents", input={"query": "resume after a lost connection"}
)
FOUND = ToolResultPart(
    call="1",
    output=[
        {"document": "docs/concepts.md", "section": "Cursors"},
        {"document": "docs/design.md", "section": "The stream"},
    ],
)
COUNT = ToolCallPart(call="2", name="calculator", input={"expression": "90 * 40"})
SOURCES = [
    SourcePart(source="concepts", title="Concepts: cursors", url="https://example.org/concepts"),
    SourcePart(source="design", title="Design: the stream", url="https://example.org/design"),
]


async def write(story: Scripted, page: Page) -> None:
    """Write the reply while the page shows it, so that the calls have times."""
    await story.say(
        ReasoningPart(text="The documents say what a cursor is."), TextPart(text=BEFORE)
    )
    await story.say(SEARCH, COUNT)
    await page.locator(".call[data-state=running]").nth(1).wait_for()
    await asyncio.sleep(0.2)  # seconds that the tools take
    await story.say(ToolResultPart(call="2", output=3600))
    await asyncio.sleep(0.6)
    await story.say(FOUND, *SOURCES, TextPart(text=AFTER))
    await story.end()


async def list_conversations(session: BrowserContext, story: Scripted) -> None:
    """Answer with the titles of a few conversations."""
    now = datetime.now(UTC)
    items = [
        {"id": str(id), "title": title, "model": "a-model", "created_at": created_at.isoformat()}
        for id, title, created_at in [
            (story.id, TITLE, now),
            (UUID(int=1), "Merge overlapping intervals", now - timedelta(hours=1)),
            (UUID(int=2), "Tea, coffee and cocoa", now - timedelta(days=1)),
            (UUID(int=3), "A lighthouse keeper's letters", now - timedelta(days=1)),
        ]
    ]
    body = json.dumps({"items": items, "next": None})
    await session.route(
        "**/api/conversations/", lambda route: route.fulfill(body=body, content_type=JSON)
    )


async def take(page: Page, path: Path) -> None:
    """Take the picture of the conversation, with its first call open."""
    await page.locator(".facts").wait_for()
    await page.locator(".call summary").first.click()
    await page.locator(".call-body .tree").first.wait_for()
    await page.mouse.move(0, 0)
    await page.locator("#scroll").focus()
    await page.evaluate("document.activeElement.blur()")
    await page.screenshot(path=path)


async def main(path: Path) -> None:
    story = Scripted(QUESTION, TITLE)
    with tempfile.TemporaryDirectory() as place, migrated(Path(place) / "migrated") as database:
        async with Stack(Path(place) / "stack", database) as stack, chromium() as browser:
            await stack.warm()
            session = await browser.new_context(viewport=SIZE, color_scheme="light")
            await story.serve(session)
            await list_conversations(session, story)
            origin = f"http://{HOST}:{stack.ports[stack.web.name]}"
            reader = await Reader.at(session, origin, story.path)
            await reader.wait_for_state("live")
            await write(story, reader.page)
            await reader.wait_for_replies()
            await take(reader.page, path)
            await session.close()
            await story.close()
    length = path.stat().st_size
    print(f"{path}: {length:,} bytes")
    if length > MOST_BYTES:
        raise SystemExit(f"The picture is heavier than {MOST_BYTES:,} bytes.")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE))
