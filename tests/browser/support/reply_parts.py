"""A scripted reply with parts, and the parts that the page shows."""

from __future__ import annotations

from playwright.async_api import BrowserContext

from streams.protocol.parts import TextPart, ToolCallPart, ToolResultPart
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.reader import Reader, Readers
from tests.browser.support.scripted import Scripted

# Each part on the page, in order: its CSS classes, and its text without times.
SHOWN = """
() => [...document.querySelectorAll(".parts > *")].map((part) =>
  [part.className, part.textContent.replace(/ · [\\d.]+ s/, "").trim()])
"""
CLOCK = ToolCallPart(call="1", name="clock", input={"zone": "UTC", "digits": 2})
NOON = ToolResultPart(call="1", output={"time": "12:00", "zones": ["UTC", "GMT"]})


def text(words: str) -> TextPart:
    return TextPart(text=words)


async def read(reader: Readers, session: BrowserContext, story: Scripted) -> Reader:
    await story.serve(session)
    return await reader(story.path)


async def state_of(one: Reader, state: str, place: int = 0) -> str:
    """Wait until a call is in this state, and return its line."""
    call = one.page.locator(".call").nth(place)
    await one.page.locator(f".call[data-state={state}]").first.wait_for()
    await wait_for_fact(
        one.page,
        "([place, state]) => document.querySelectorAll('.call')[place]?.dataset.state === state",
        [place, state],
    )
    return await call.locator("summary").inner_text()
