"""The page's one stream, against an EventSource that does what the test wants."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.support.chromium import wait_for_fact

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A fake EventSource without a connection: the test sends the service's events.
DOUBLE = """
() => {
window.opened = [];
window.EventSource = class extends EventTarget {
  constructor(url) { super(); this.url = url; this.closed = false; window.opened.push(this); }
  close() { this.closed = true; }
  accept() { this.dispatchEvent(new Event("open")); }
  fail() { this.dispatchEvent(new Event("error")); }
  say(type, data, id = null) {
    if (id !== null) this.last = String(id);
    const event = new Event(type);
    event.data = JSON.stringify(data);
    event.lastEventId = this.last ?? "";
    this.dispatchEvent(event);
  }
};
}
"""
START = """
async () => {
  const { follow } = await import("/follow.js");
  window.heard = []; window.told = []; window.looks = 0; window.isBusy = false;
  window.stream = follow({
    url: "/events/",
    hear: ({ type, data }) => window.heard.push([type, data]),
    tell: ({ state }) => window.told.push(state),
    look: async () => {
      window.looks += 1;
      if (window.refusal) throw window.refusal;
      return { cursor: 0 };
    },
    busy: () => window.isBusy,
  });
}
"""
TOLD = """
() => ({ urls: window.opened.map((s) => s.url), told: window.told, heard: window.heard.length })
"""


async def following(page: Page) -> None:
    await page.evaluate(DOUBLE)
    await page.evaluate(START)
    await wait_for_fact(page, "window.opened.length === 1")
    await page.evaluate(
        """() => { const s = window.opened[0]; s.accept();
          s.say("conversation.snapshot", {}, 10); s.say("text.delta", {}, 11); }"""
    )


async def told(page: Page) -> Any:
    return await page.evaluate(TOLD)


async def test_a_lost_connection_resumes_from_the_last_id(bare: Page) -> None:
    await following(bare)
    await bare.evaluate("window.opened[0].fail()")
    await wait_for_fact(bare, "window.opened.length === 2")
    await bare.evaluate("window.opened[1].accept()")
    assert await told(bare) == {
        "urls": ["/events/", "/events/?lastEventId=11"],
        "told": ["connecting", "live", "reconnecting", "back"],
        "heard": 2,
    }


async def test_a_silent_connection_is_closed_after_two_and_a_half_heartbeats(bare: Page) -> None:
    await bare.clock.install(time=0)
    await bare.clock.pause_at(3600)  # otherwise the time that the test itself takes would count
    await bare.evaluate(DOUBLE)
    await bare.evaluate(START)
    await wait_for_fact(bare, "window.opened.length === 1")
    await bare.evaluate("window.opened[0].accept()")
    await bare.evaluate("window.opened[0].say('conversation.snapshot', {}, 10)")
    await bare.clock.run_for(37_000)
    await bare.evaluate("window.opened[0].say('heartbeat', {head: 10})")
    await bare.clock.run_for(37_000)
    assert (await told(bare))["urls"] == ["/events/"]
    await bare.clock.run_for(1_000)
    assert (await told(bare))["urls"] == ["/events/", "/events/?lastEventId=10"]
    assert await bare.evaluate("window.opened[0].closed")


async def test_a_gap_is_never_skipped(bare: Page) -> None:
    """What is so now comes with a snapshot, which a stream without a cursor begins with."""
    await following(bare)
    await bare.evaluate("window.opened[0].say('text.delta', {}, 13)")
    await wait_for_fact(bare, "window.opened.length === 2")
    assert (await told(bare))["urls"][1] == "/events/"
    assert (await told(bare))["heard"] == 2
    assert await bare.evaluate("window.stream.seen.gaps") == 1


async def test_events_received_before_are_dropped(bare: Page) -> None:
    await following(bare)
    await bare.evaluate("window.opened[0].say('text.delta', {}, 11)")
    assert (await told(bare))["heard"] == 2
    assert await bare.evaluate("window.stream.seen.repeats") == 1


async def test_after_a_reset_ids_ascend_from_the_snapshot(bare: Page) -> None:
    await following(bare)
    await bare.evaluate(
        """() => { const s = window.opened[0];
          s.say("stream-reset", {reason: "lost", channels: []});
          s.say("conversation.snapshot", {}, 5000); s.say("text.delta", {}, 5001); s.fail(); }"""
    )
    await wait_for_fact(bare, "window.opened.length === 2")
    seen = await told(bare)
    assert (seen["urls"][1], seen["heard"]) == ("/events/?lastEventId=5001", 4)
    assert await bare.evaluate("[window.stream.seen.resets, window.stream.seen.gaps]") == [1, 0]


async def test_a_deleted_conversation_is_not_requested_again(bare: Page) -> None:
    await following(bare)
    await bare.evaluate("window.opened[0].say('stream-error', {condition: 'gone', text: ''})")
    assert (await told(bare))["told"][-1] == "ended"
    assert await bare.evaluate("window.opened[0].closed")


async def test_a_refusal_that_eventsource_hides_is_detected(bare: Page) -> None:
    await following(bare)
    await bare.evaluate("window.refusal = Object.assign(new Error('no'), {status: 404})")
    for n in range(3):
        await wait_for_fact(bare, f"window.opened.length === {n + 1}")
        await bare.evaluate(f"window.opened[{n}].fail()")
    await wait_for_fact(bare, "window.told.at(-1) === 'ended'")
    assert await bare.evaluate("window.opened.length") == 3


async def test_a_service_without_its_log_is_shown_as_waiting(bare: Page) -> None:
    await following(bare)
    await bare.evaluate("window.opened[0].say('heartbeat', {head: null})")
    await bare.evaluate("window.opened[0].say('heartbeat', {head: 11})")
    assert (await told(bare))["told"] == ["connecting", "live", "waiting", "live"]


async def tabs(first: Page, count: int, *, is_last_in_front: bool = False) -> list[Page]:
    """This tab and others of its browser. Only the last one has the focus, if it is in front."""
    pages = [first, *[await first.context.new_page() for _ in range(count - 1)]]
    for page in pages[1:]:
        await page.goto(first.url)
    if is_last_in_front:
        for page in pages:
            has_focus = "true" if page is pages[-1] else "false"
            await page.evaluate(f"document.hasFocus = () => {has_focus}")
    return pages


async def test_seven_tabs_hold_four_streams_and_the_others_poll(bare: Page) -> None:
    pages = await tabs(bare, 7)
    for page in pages:
        await page.evaluate(DOUBLE)
        await page.evaluate(START)
    for page in pages[:4]:
        await wait_for_fact(page, "window.opened.length === 1")
    for page in pages[4:]:
        await wait_for_fact(page, "window.looks > 0")
    opened = [await page.evaluate("window.opened.length") for page in pages]
    assert opened == [1, 1, 1, 1, 0, 0, 0]
    await pages[0].close()
    await wait_for_fact(pages[4], "window.opened.length === 1")


async def test_a_background_tab_gives_its_stream_to_the_tab_in_front(bare: Page) -> None:
    *holders, asking = pages = await tabs(bare, 5, is_last_in_front=True)
    for page in pages:
        await page.evaluate(DOUBLE)
        await page.evaluate(START)
    await wait_for_fact(asking, "window.opened.length === 1")
    closed = [
        await page.evaluate("window.opened.filter(({ closed }) => closed).length")
        for page in holders
    ]
    assert sum(closed) == 1, closed


async def test_the_tab_in_front_gets_its_stream_though_another_tab_waits_before_it(
    bare: Page,
) -> None:
    pages = await tabs(bare, 6, is_last_in_front=True)
    for page in pages:
        await page.evaluate(DOUBLE)
        await page.evaluate(START)
        state = "window.opened.length === 1" if page in pages[:4] else "window.looks > 0"
        await wait_for_fact(page, state)
    await wait_for_fact(pages[-1], "window.opened.length === 1")


async def test_a_hidden_tab_pauses_when_idle_and_resumes_when_visible(bare: Page) -> None:
    await bare.clock.install()
    await following(bare)
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await bare.evaluate("window.isBusy = true")
    await bare.evaluate(hide, True)
    await bare.clock.run_for(20_000)
    assert not await bare.evaluate("window.opened[0].closed"), "a reply is being written"
    await bare.evaluate("window.isBusy = false")
    await bare.evaluate("window.opened[0].say('run.completed', {}, 12)")
    await bare.clock.run_for(11_000)
    assert await bare.evaluate("window.opened[0].closed")
    await bare.evaluate(hide, False)
    await wait_for_fact(bare, "window.opened.length === 2")
    assert (await told(bare))["urls"][1] == "/events/?lastEventId=12"
