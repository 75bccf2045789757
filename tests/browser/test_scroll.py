"""Scrolling while a reply grows: a reader at the bottom follows, one above stays."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.reader import WRITTEN_WITHIN, Reader
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")

BLOCK = [
    *("A paragraph, of several words, that is long enough to fill two lines of the page. " * 3)
    .strip()
    .split(" "),
    "\n\n",
    *"- one\n- two\n- three\n\n".splitlines(keepends=True),
    *"```python\ndef sew(thread):\n    return thread\n```\n\n".splitlines(keepends=True),
]
PIECES = [piece if piece.endswith("\n") else f"{piece} " for piece in BLOCK * 6]
CLOSE = 2  # pixels: what rounding makes of "at the bottom"

# How far from the bottom a frame was painted, and how high the whole was.
PLACED = """
(() => {
  const { scrollHeight, scrollTop, clientHeight } = document.getElementById("scroll");
  return [scrollHeight - scrollTop - clientHeight, scrollHeight];
})()
"""
PLACE = "document.getElementById('scroll').scrollTop"
HEIGHT = "document.getElementById('scroll').scrollHeight"
RESTED = f"""async () => {{
  const before = {PLACE};
  for (let n = 0; n < 10; n += 1) await new Promise(requestAnimationFrame);
  return {PLACE} === before;
}}"""
# A clock on which every look takes 10 ms, and timers that wait for a frame.
SLOW = """(() => {
  const [clock, timer] = [performance.now.bind(performance), window.setTimeout];
  let looks = 0;
  performance.now = () => clock() + (looks += 10);
  window.setTimeout = (act, ms = 0) =>
    ms > 0 ? timer(act, ms) : requestAnimationFrame(() => timer(act, 0));
})()"""
GROWN = f"height => {HEIGHT} > height + 150"


async def grows(one: Reader) -> None:
    """Wait until the reply has grown by some lines."""
    await wait_for_fact(one.page, GROWN, await one.page.evaluate(HEIGHT), within=WRITTEN_WITHIN)


async def at_a_third_reply(one: Reader, times: int = 1) -> None:
    """Read two long replies, and begin a third that is written slowly, and is `times` as long."""
    await one.begin(script(text=PIECES, seed=1))
    await one.watch(PLACED)
    await one.wait_for_replies()
    await one.ask(script(text=PIECES, seed=2))
    await one.wait_for_replies(replies=2)
    await one.ask(script(text=PIECES * times, rate=60, seed=3))
    await wait_for_fact(one.page, "document.querySelectorAll('.said').length === 3")
    await one.wait_for_length(1)


@pytest.mark.parametrize("width", [1280, 390])
async def test_a_reader_at_the_bottom_stays_there_on_every_frame(
    reader: Readers, width: int
) -> None:
    one = await reader()
    await one.page.set_viewport_size({"width": width, "height": 800})
    await at_a_third_reply(one)
    await one.wait_for_replies(replies=3)
    await one.page.locator(".facts").last.wait_for(state="visible")
    painted = await one.page.evaluate("window.painted")
    assert painted[-1][1] > painted[0][1] + 1000, "the third reply is longer than the page"
    assert [distance for distance, _ in painted if distance > CLOSE] == []
    assert await one.page.is_hidden("#to-bottom")
    root = "document.documentElement"
    assert await one.page.evaluate(f"{root}.scrollHeight - {root}.clientHeight") == 0


async def test_long_text_that_is_read_in_slices_is_followed_on_every_frame(
    reader: Readers, session: BrowserContext
) -> None:
    """On a machine so slow that each step of a reading takes a whole slice."""
    await session.add_init_script(SLOW)
    one = await reader()
    await one.begin(script(tokens=2, seed=5))
    await one.wait_for_replies()
    await one.watch(PLACED)
    await one.ask(script(text=PIECES * 4, seed=6))
    await one.wait_for_replies(replies=2)
    painted = await one.page.evaluate("window.painted")
    assert painted[-1][1] > painted[0][1] + 2000, "the reply is longer than the page"
    assert [distance for distance, _ in painted if distance > CLOSE] == []


async def test_a_small_screen_starts_at_the_top_of_the_welcome(reader: Readers) -> None:
    one = await reader()
    await one.page.set_viewport_size({"width": 320, "height": 480})
    await one.page.reload()
    await wait_for_fact(one.page, "document.getElementById('model').options.length > 0")
    assert await one.page.evaluate(PLACE) == 0
    assert await one.page.is_hidden("#to-bottom")
    await one.ask(script(text=PIECES, seed=4))
    await one.wait_for_replies()
    await wait_for_fact(one.page, f"{PLACED}[0] <= {CLOSE}")


async def test_a_reader_that_scrolls_up_stays_until_following_is_requested(reader: Readers) -> None:
    one = await reader()
    await at_a_third_reply(one, times=20)  # it lasts until it is stopped
    await grows(one)
    await one.page.mouse.move(640, 300)
    await one.page.mouse.wheel(0, -700)
    await one.page.locator("#to-bottom").wait_for(state="visible")
    await wait_for_fact(one.page, RESTED)
    before = await one.page.evaluate(PLACE)
    await grows(one)
    assert await one.page.evaluate(PLACE) == before
    await one.page.click("#to-bottom")
    await one.page.evaluate("() => { window.painted.length = 0; }")
    await grows(one)
    painted = await one.page.evaluate("window.painted")
    assert [distance for distance, _ in painted if distance > CLOSE] == []
    assert await one.page.is_hidden("#to-bottom")
    await one.page.click("#stop")
    await one.wait_for_replies(replies=3)
