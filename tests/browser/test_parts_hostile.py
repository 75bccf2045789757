"""Hostile parts stay text, and parts are no barrier to assistive technology."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, BrowserContext

from streams.protocol.parts import (
    DataPart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.browser.conftest import Readers
from tests.browser.support.axe import findings
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.hostile import ELSEWHERE, MUTATIONS, PAYLOADS
from tests.browser.support.reply_parts import CLOCK, NOON, read, state_of, text
from tests.browser.support.scripted import Scripted

pytestmark = pytest.mark.asyncio(loop_scope="session")


def hostile_parts(evil: str, number: int) -> list[Part]:
    call = f"{number}"
    return [
        ReasoningPart(text=evil),
        ToolCallPart(call=call, name=evil, input={evil: evil, "list": [evil, {evil: [evil]}]}),
        ToolResultPart(call=call, output=evil if number % 2 else {evil: [evil]}),
        ToolCallPart(call=f"{call}!", name="x", input={"x": evil}),
        ToolResultPart(call=f"{call}!", error=evil),
        SourcePart(source=evil, title=evil, url=evil),
        SourcePart(source=evil, title="", url=f"{ELSEWHERE}/{evil}"),
        DataPart(name=evil, data={evil: evil}, id=evil),
        TextPart(text=evil),
    ]


async def test_hostile_parts_stay_text(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    evils = [evil.replace("\x00", "\ufffd") for evil in [*PAYLOADS, *MUTATIONS]]
    for number, evil in enumerate(evils):
        await story.say(*hostile_parts(evil, number))
    one = await read(reader, session, story)
    opened = "() => { for (const one of document.querySelectorAll('.parts details')) one.open = 1 }"
    for _ in range(2):  # while it is written, and as it is stored
        await wait_for_fact(
            one.page, "n => document.querySelectorAll('.call').length === n", 2 * len(evils)
        )
        await one.page.evaluate(opened)
        await wait_for_fact(
            one.page, "![...document.querySelectorAll('.call-body')].some(b => !b.firstChild)"
        )
        names = await one.page.locator(".call-name").all_text_contents()
        assert names == [name for evil in evils for name in (evil, "x")]
        thoughts = await one.page.locator(".thoughts-text").all_text_contents()
        assert thoughts == evils
        keys = await one.page.locator(".data-body .tree-key").all_text_contents()
        assert keys == evils
        forbidden = (
            ":is(script, img, iframe, style, form, object, embed, link, meta, base, video, math)"
        )
        assert await one.page.locator(f".parts {forbidden}").count() == 0
        links = await one.page.eval_on_selector_all(
            ".source a",
            "all => all.map(a => [a.protocol, a.host, a.rel, a.target, a.attributes.length])",
        )
        hosts = {(protocol, host) for protocol, host, *_ in links}
        assert hosts <= {("https:", "elsewhere.test"), ("https:", "e.test")}
        assert {tuple(rest) for _, _, *rest in links} == {("noopener noreferrer", "_blank", 4)}
        assert (one.seen.dialogs, one.seen.elsewhere, one.seen.errors) == ([], [], [])
        assert await one.violations() == []
        await story.end()
        await one.page.reload()
        await one.wait_for_replies()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_axe_finds_no_serious_barrier_in_parts(
    reader: Readers, browser: Browser, story: Scripted, scheme: str, width: int
) -> None:
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    failed = ToolCallPart(call="2", name="n" * 200, input={"w": "w" * 500})
    await story.say(ReasoningPart(text="Hm."), text("I look."), CLOCK)
    await story.serve(context)
    one = await reader(story.path, context)
    await state_of(one, "running")
    assert await findings(one) == [], "while a tool runs"
    await story.say(NOON, failed, ToolResultPart(call="2", error="No."))
    await story.say(SourcePart(source="1", title="A title " * 20, url="https://e.test/a"))
    await story.say(DataPart(name="plan", data={"a": [1, {"b": "c"}]}), text("So."))
    await story.end()
    await one.wait_for_replies()
    assert await findings(one) == []
    await one.page.evaluate(
        "() => { for (const one of document.querySelectorAll('.parts details')) one.open = true; }"
    )
    await one.page.locator(".call-body .tree").first.wait_for()
    assert await findings(one) == [], "with all of it open"
    widths = "() => [document.getElementById('scroll')].map(s => [s.scrollWidth, s.clientWidth])"
    [[needed, given]] = await one.page.evaluate(widths)
    assert needed <= given
    await context.close()
