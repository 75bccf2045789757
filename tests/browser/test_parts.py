"""The parts of replies on the page: calls, reasoning, sources and data, also hostile ones."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import BrowserContext

from streams.protocol.events import RunCancelled
from streams.protocol.parts import DataPart, ReasoningPart, SourcePart, ToolCallPart, ToolResultPart
from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.reply_parts import CLOCK, NOON, SHOWN, read, state_of, text
from tests.browser.support.scripted import Scripted

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_call_is_one_line_that_opens_to_its_input_and_result(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(text("Let me **look**."), CLOCK)
    one = await read(reader, session, story)
    line = (await state_of(one, "running")).split("\n")
    assert line == ["clock", "zone: UTC, digits: 2", "running"]
    await story.say(NOON)
    line = (await state_of(one, "done")).split("\n")
    assert line[-1].startswith("done · ")
    assert line[-1].endswith(" s")
    box = await one.page.locator(".call summary").bounding_box()
    assert box
    assert box["height"] < 40, "one line"
    await story.say(text("It is "), text("*noon*."))
    await story.end()
    await one.wait_for_replies()
    assert [kind for kind, _ in await one.page.evaluate(SHOWN)] == ["prose", "call", "prose"]
    assert await one.page.locator(".call-body > *").count() == 0, "nothing is built before it opens"
    await one.page.locator(".call summary").press("Enter")
    await one.page.locator(".call-body .tree").nth(1).wait_for()
    body = await one.page.locator(".call-body").inner_text()
    words = [word.strip() for word in body.split("\n") if word.strip()]
    assert words == [
        "Input",
        "zone: UTC",
        "digits: 2",
        "Result",
        "time: 12:00",
        "zones:",
        "UTC",
        "GMT",
    ]
    assert await one.page.locator(".prose").nth(0).inner_html() == (
        '<p dir="auto">Let me <strong>look</strong>.</p>'
    )
    assert await one.text() == "It is noon."
    assert one.seen.errors == []


@pytest.mark.parametrize(
    ("error", "label", "sentence"),
    [
        ("cancelled", "stopped", "The reply was stopped before the tool returned."),
        (
            "worker_lost",
            "interrupted",
            "The worker was lost. Whether the tool finished is unknown.",
        ),
        ("failed", "failed", "The reply ended before the tool returned."),
        ("No such zone", "failed", "No such zone"),
    ],
)
async def test_a_call_that_failed_says_how(
    reader: Readers, session: BrowserContext, story: Scripted, error: str, label: str, sentence: str
) -> None:
    await story.say(CLOCK, ToolResultPart(call="1", error=error))
    await story.end(RunCancelled)
    one = await read(reader, session, story)
    assert (await state_of(one, "failed")).split("\n")[-1] == label
    await one.page.click(".call summary")
    assert await one.page.locator(".call-body > :last-child").inner_text() == sentence


async def test_results_go_to_their_own_calls_in_whatever_order_they_come(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    calls = [ToolCallPart(call=name, name=name, input={}) for name in ("a", "b", "c")]
    await story.say(*calls, ToolResultPart(call="c", output="of c"))
    one = await read(reader, session, story)
    assert (await state_of(one, "done", 2)).startswith("c\n")
    await story.say(ToolResultPart(call="a", error="of a"), ToolResultPart(call="z", output="of z"))
    await state_of(one, "failed", 0)
    assert await state_of(one, "running", 1)
    await story.say(ToolResultPart(call="b", output=None))
    assert await state_of(one, "done", 1)
    assert (await state_of(one, "done", 3)).startswith("Result\n"), "of a call that is not known"


async def test_reasoning_is_folded_and_stays_where_it_was(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(ReasoningPart(text="First "), ReasoningPart(text="this."), text("A."))
    one = await read(reader, session, story)
    await one.page.locator(".prose").wait_for()
    assert await one.page.locator(".thoughts").get_attribute("open") is None
    await story.say(ReasoningPart(text="Then that."), text("B."))
    await story.end()
    await one.wait_for_replies()
    shown = await one.page.evaluate(SHOWN)
    assert shown == [
        ["thoughts", "ThinkingFirst this."],
        ["prose", "A."],
        ["thoughts", "ThinkingThen that."],
        ["prose", "B."],
    ]
    assert await one.page.locator(".thoughts-text").first.is_hidden()


async def test_sources_are_numbered_links_to_the_web_alone(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    addresses = ["https://e.test/a", "http://e.test/b", None, "javascript:alert(1)", "mailto:a@b"]
    sources = [
        SourcePart(source=str(n), title=f"Title {n}", url=url) for n, url in enumerate(addresses)
    ]
    await story.say(sources[0], text("So."), *sources[1:])
    await story.end()
    one = await read(reader, session, story)
    await one.wait_for_replies()
    names = await one.page.locator(".source").all_inner_texts()
    assert [name.split() for name in names] == [[str(n + 1), "Title", str(n)] for n in range(5)]
    links = await one.page.eval_on_selector_all(
        ".source a", "all => all.map(a => [a.href, a.rel, a.target])"
    )
    assert links == [
        [url, "noopener noreferrer", "_blank"] for url in ("https://e.test/a", "http://e.test/b")
    ]


async def test_data_is_a_bounded_tree_that_is_replaced_in_its_place(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    deep: Any = "end"
    for _ in range(200):
        deep = {"in": deep}
    many = {"many": list(range(5_000)), "after": 1}
    await story.say(
        DataPart(name="plan", data={"step": 1, "done": False, "none": None, "empty": []}, id="p"),
        DataPart(name="deep", data=deep),
        DataPart(name="many", data=many),
        DataPart(name="long", data="x" * 60_000),
    )
    one = await read(reader, session, story)
    trees = one.page.locator(".data-body")
    await trees.nth(3).wait_for()
    assert (await trees.nth(0).inner_text()).split("\n") == [
        "step: 1",
        "done: false",
        "none: null",
        "empty: empty list",
    ]
    assert await trees.nth(1).locator("ul").count() == 6
    assert (await trees.nth(1).inner_text()).endswith("1 more inside")
    assert await trees.nth(2).locator("li").count() <= 203
    assert (await trees.nth(2).inner_text()).endswith("4801 more\n1 more")
    long = await trees.nth(3).inner_text()
    assert long == "x" * 20_000 + "… (40000 more characters)"
    await story.say(DataPart(name="plan", data={"step": 2}, id="p"))
    await wait_for_fact(one.page, "document.querySelector('.data-body').textContent === 'step: 2'")
    assert await trees.count() == 4
