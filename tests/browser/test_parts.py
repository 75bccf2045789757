"""The parts of replies on the page: calls, reasoning, sources and data, also hostile ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route

from streams.protocol.events import RunCancelled
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
from tests.browser.support.reader import Reader
from tests.browser.support.scripted import Scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Each part on the page, in order: what it is, and its text without times.
SHOWN = """
() => [...document.querySelectorAll(".parts > *")].map((part) =>
  [part.className, part.textContent.replace(/ · [\\d.]+ s/, "").trim()])
"""
CLOCK = ToolCallPart(call="1", name="clock", input={"zone": "UTC", "digits": 2})
NOON = ToolResultPart(call="1", output={"time": "12:00", "zones": ["UTC", "GMT"]})


def text(words: str) -> TextPart:
    return TextPart(text=words)


@pytest_asyncio.fixture(loop_scope="module")
async def story() -> AsyncIterator[Scripted]:
    """A conversation that the test writes."""
    one = Scripted()
    yield one
    await one.close()


async def read(reader: Readers, session: BrowserContext, story: Scripted) -> Reader:
    await story.serve(session)
    return await reader(story.path)


async def state_of(one: Reader, state: str, place: int = 0) -> str:
    """The line of a call once it is in this state."""
    call = one.page.locator(".call").nth(place)
    await one.page.locator(f".call[data-state={state}]").first.wait_for()
    await wait_for_fact(
        one.page,
        "([place, state]) => document.querySelectorAll('.call')[place]?.dataset.state === state",
        [place, state],
    )
    return await call.locator("summary").inner_text()


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


async def test_a_reload_in_the_middle_of_a_call_ends_with_the_same_parts(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(text("I look. "), CLOCK)
    stays = await read(reader, session, story)
    reloads = await reader(story.path)
    for one in (stays, reloads):
        await state_of(one, "running")
    await reloads.page.reload()
    assert (await state_of(reloads, "running")).startswith("clock\n")
    await story.say(NOON, SourcePart(source="1", title="A"), text("Noon: "))
    await state_of(reloads, "done")
    await reloads.page.reload()
    await story.say(text("**12**"), DataPart(name="d", data=[1]))
    await story.end()
    for one in (stays, reloads):
        await one.wait_for_replies()
    shown = await stays.page.evaluate(SHOWN)
    assert [kind for kind, _ in shown] == ["prose", "call", "source", "prose", "data"]
    assert await reloads.page.evaluate(SHOWN) == shown
    await stays.page.reload()
    await stays.wait_for_replies()
    assert await stays.page.evaluate(SHOWN) == shown
    assert (await state_of(stays, "done")).split("\n")[-1] == "done", "no time that it has not seen"


async def test_a_higher_attempt_shows_its_own_parts_alone(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(text("Lost."), CLOCK, DataPart(name="d", data=1))
    one = await read(reader, session, story)
    await state_of(one, "running")
    await story.begin_again()
    await story.say(CLOCK, NOON, text("Anew."))
    await story.end()
    await one.wait_for_replies()
    shown = await one.page.evaluate(SHOWN)
    assert [kind for kind, _ in shown] == ["call", "prose"]
    assert await one.text() == "Anew."


async def test_text_before_a_call_is_whole_while_the_call_runs(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    """A mark that more text could complete is held back only in text that is still written."""
    await story.say(text("Five stars: **"))
    one = await read(reader, session, story)
    await wait_for_fact(one.page, "document.querySelector('.prose')?.innerText === 'Five stars:'")
    await story.say(CLOCK)
    await state_of(one, "running")
    await wait_for_fact(one.page, "document.querySelector('.prose').innerText === 'Five stars: **'")


async def test_a_snapshot_replaces_what_differs_from_it(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(ReasoningPart(text="Hm."), text("Half of **it**"), CLOCK)
    one = await read(reader, session, story)
    await state_of(one, "running")
    await story.replace(ReasoningPart(text="So."), text("All of *it*"), CLOCK, NOON, text("A"))
    await story.say(text("gain."))
    prose = "[...document.querySelectorAll('.prose')].map(p => p.innerText).join()"
    await wait_for_fact(one.page, f"{prose} === 'All of it,Again.'")
    shown = await one.page.evaluate(SHOWN)
    assert shown[0] == ["thoughts", "ThinkingSo."]
    assert [kind for kind, _ in shown] == ["thoughts", "prose", "call", "prose"]
    await story.replace(text("One."))
    await wait_for_fact(one.page, "document.querySelectorAll('.parts > *').length === 1")
    await story.end()
    await one.wait_for_replies()
    assert await one.page.evaluate(SHOWN) == [["prose", "One."]]


async def test_what_is_opened_stays_open_while_the_reply_goes_on(
    reader: Readers, session: BrowserContext, story: Scripted
) -> None:
    await story.say(CLOCK)
    one = await read(reader, session, story)
    await state_of(one, "running")
    await one.page.click(".call summary")
    await one.page.locator(".call-body .tree").wait_for()
    await story.say(NOON, text("So."))
    await one.page.get_by_text("Result", exact=True).wait_for()
    await one.page.evaluate("window.tree = document.querySelector('.call-body .tree')")
    await story.snapshot("Another title")
    await wait_for_fact(
        one.page, "document.getElementById('title').textContent === 'Another title'"
    )
    await story.end()
    await one.wait_for_replies()
    kept = "window.tree === document.querySelector('.call-body .tree')"
    assert await one.page.evaluate(f"{kept} && document.querySelector('.call').open")


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


COST = """
async ([count, text]) => {
  const { ReplyParts } = await import("/reply_parts.js");
  const { Markdown } = await import("/markdown.js");
  const { addPart } = await import("/parts.js");
  const here = document.getElementById("here");
  const frame = () => new Promise(requestAnimationFrame);
  const shown = new ReplyParts(() => {});
  here.append(shown.element);
  let parts = [];
  for (let n = 0; n < count; n += 1) {
    parts = addPart(parts, { type: "text", text: `Some **words** number ${n}.` });
    parts = addPart(parts, { type: "tool_call", call: `${n}`, name: "look", input: { n } });
    parts = addPart(parts, { type: "tool_result", call: `${n}`, output: n });
  }
  await shown.settle(parts);
  let cost = 0;
  for (let end = 0; end < text.length; end += 600) {
    parts = addPart(parts, { type: "text", text: text.slice(end, end + 600) });
    await frame();
    const start = performance.now();
    shown.write(parts, 0);
    cost += performance.now() - start;
  }
  await shown.settle(parts);
  const whole = document.createElement("div");
  const start = performance.now();
  await new Markdown(whole).settle(text);
  const once = performance.now() - start;
  const last = [...shown.element.querySelectorAll(".prose")].at(-1);
  const isSame = last.innerHTML === whole.innerHTML;
  return { cost, once, isSame, parts: shown.element.childElementCount };
}
"""


async def test_text_after_many_calls_costs_what_is_new(bare: Page) -> None:
    """The parts before the last one are not drawn again with each piece."""
    writing = "some **bold** words and `code`, [a link](https://e.test/a) in one line\n\n" * 1_500
    few = await bare.evaluate(COST, [1, writing])
    many = await bare.evaluate(COST, [330, writing])
    assert (few["isSame"], many["isSame"]) == (True, True)
    assert many["parts"] == 661
    assert many["cost"] < 2 * few["cost"] + 500, (few, many)


async def test_the_first_screen_offers_agents_and_their_ideas(
    reader: Readers, session: BrowserContext
) -> None:
    models = {
        "items": [
            {"id": "small", "kind": "model"},
            {"id": "plain"},
            {"id": "desk", "kind": "agent", "suggestions": ["What time is it in Lima?"]},
            {"id": "chain", "kind": "agent"},
        ],
        "default": "small",
    }

    async def answer(route: Route) -> None:
        await route.fulfill(body=json.dumps(models), content_type="application/json")

    await session.route("**/api/models/", answer)
    one = await reader()
    desk = one.page.get_by_role("group", name="Agents").get_by_role("button", name="desk")
    await desk.wait_for()
    groups = await one.page.eval_on_selector_all(
        "#model optgroup", "all => all.map(g => [g.label, ...[...g.children].map(o => o.value)])"
    )
    assert groups == [["Models", "small", "plain"], ["Agents", "desk", "chain"]]
    usual = await one.page.locator("#ideas button").count()
    await desk.click()
    assert await one.page.input_value("#model") == "desk"
    assert await desk.get_attribute("aria-pressed") == "true"
    assert await one.page.locator("#ideas button").all_inner_texts() == ["What time is it in Lima?"]
    assert await findings(one) == []
    await one.page.click("#ideas button")
    assert await one.page.input_value("#message") == "What time is it in Lima?"
    await desk.click()
    assert await one.page.input_value("#model") == "small"
    assert await one.page.locator("#ideas button").count() == usual
    await one.page.select_option("#model", "chain")
    pressed = one.page.locator("#agents [aria-pressed=true]")
    assert await pressed.all_inner_texts() == ["chain"]
    sent: list[Any] = []
    one.page.on(
        "request",
        lambda asked: sent.append(asked.post_data_json) if asked.method == "POST" else None,
    )
    await one.ask("Hello")
    await wait_for_fact(one.page, "document.getElementById('refusal').hidden === false")
    assert [body["model"] for body in sent] == ["chain"]
