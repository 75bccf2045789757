"""The page is accessible: axe-core finds nothing serious, in light, dark, wide and narrow."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from tests.browser.conftest import Readers
from tests.browser.support.axe import findings
from tests.browser.support.chromium import wait_for_fact
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPLY = """# A reply

With **words**, `code` and [a link](https://example.org).

> And a word of another author.

```python
def stitch(length: int) -> str:
    return "x" * length  # a remark
```

| part | turns |
|---|---|
| hook | 2 |

- [ ] thread
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_no_serious_barrier(
    reader: Readers, browser: Browser, scheme: str, width: int
) -> None:
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    one = await reader("/", context)
    assert await findings(one) == []
    await one.begin(script(text=[REPLY, "More. " * 200], rate=1))
    await one.wait_for_length(10)
    assert await findings(one) == [], "while a reply is written"
    await one.wait_for_replies()
    await one.page.locator(".facts").last.wait_for(state="visible")
    assert await findings(one) == []
    await one.facts()
    assert await findings(one) == [], "with the developer view"
    await one.page.click("#close-panel")
    if width < 800:
        await one.page.click("#menu")
        assert await findings(one) == [], "with the list open"
    await context.close()


# Collects in `window.said` what the page announces.
LISTEN = """
() => {
  window.said = [];
  const region = document.getElementById("announcements");
  new MutationObserver(() => region.textContent && window.said.push(region.textContent))
    .observe(region, { childList: true });
}
"""


async def test_screen_readers_are_notified_twice_per_reply_and_of_no_token(reader: Readers) -> None:
    one = await reader()
    await one.begin(script(tokens=1, seed=30))
    await one.wait_for_state("live")  # a stream that opens late has a snapshot of the whole reply
    await one.wait_for_replies()
    await wait_for_fact(one.page, "document.getElementById('announcements').textContent !== ''")
    await one.page.evaluate(LISTEN)
    await one.ask(script(tokens=40, rate=40, seed=31))
    await one.wait_for_replies(replies=2)
    await wait_for_fact(one.page, "window.said.includes('The reply is complete.')")
    assert await one.page.evaluate("window.said") == [
        "A reply is being written.",
        "The reply is complete.",
    ]
    live = "[...document.querySelectorAll('[aria-live], [role=log]')].map(e => e.id)"
    assert await one.page.evaluate(live) == ["announcements"]


async def test_screen_readers_are_notified_of_a_reply_that_ended_before_the_stream_opened(
    reader: Readers, session: BrowserContext
) -> None:
    replied = asyncio.Event()

    async def open_late(route: Route) -> None:
        await replied.wait()
        await route.continue_()

    await session.route("**/events/", open_late)
    one = await reader()
    await one.page.evaluate(LISTEN)
    path = await one.begin(script(tokens=2, seed=32))
    snapshot = f"/api{path.replace('/c/', '/conversations/')}/"
    while (await (await one.page.request.get(f"{one.origin}{snapshot}")).json())["runs"]:
        await asyncio.sleep(0.02)
    replied.set()
    await one.wait_for_replies()
    await wait_for_fact(one.page, "window.said.length > 0")
    assert await one.page.evaluate("window.said") == ["The reply has ended."]
