"""The parts of a reply that is reloaded, replaced or written again."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from streams.protocol.parts import DataPart, ReasoningPart, SourcePart
from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.browser.support.reply_parts import CLOCK, NOON, SHOWN, read, state_of, text
from tests.browser.support.scripted import Scripted

pytestmark = pytest.mark.asyncio(loop_scope="session")


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


SETTLED_AS_COPIES = """
async (parts) => {
  const { ReplyParts } = await import("/reply_parts.js");
  const shown = new ReplyParts();
  shown.write(parts, 0);
  const call = shown.element.querySelector(".call");
  call.open = true;
  await new Promise((next) => call.addEventListener("toggle", next, { once: true }));
  const tree = call.querySelector(".tree");
  await shown.settle(structuredClone(parts));
  return tree !== null && tree === call.querySelector(".tree");
}
"""


async def test_an_opened_call_stays_as_it_is_when_a_snapshot_ends_its_reply(bare: Page) -> None:
    """A snapshot and the end of a run may come between two frames."""
    call = {"type": "tool_call", "call": "1", "name": "clock", "input": {"zone": "UTC"}}
    result = {"type": "tool_result", "call": "1", "output": {"time": "12:00"}}
    assert await bare.evaluate(SETTLED_AS_COPIES, [call, result])


SETTLED = """
async ([isLoaded, written, parts]) => {
  const { ReplyParts } = await import("/reply_parts.js");
  const { ReplyText } = await import("/reply_text.js");
  if (isLoaded) await new ReplyText(document.createElement("div")).settle("Loads the modules.");
  let now = 0;
  performance.now = () => (now += 1_000); // each step of a reading takes a whole slice
  const shown = new ReplyParts();
  for (const some of written) shown.write(some, 0);
  await shown.settle(parts);
  await new Promise((next) => setTimeout(next)); // a reading that was superseded takes its turn
  return [shown.isWhole(parts), shown.element.querySelectorAll(".prose strong").length];
}
"""


LONG = {"type": "text", "text": "One **word**.\n\n" * 50}
CALL = {"type": "tool_call", "call": "1", "name": "look", "input": {}}
END = {"type": "text", "text": "."}


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize(
    ("written", "parts"),
    [([[LONG, CALL]], [LONG, CALL, END]), ([[LONG, CALL], [LONG]], [LONG])],
    ids=["before a call", "last again"],
)
async def test_a_reply_is_settled_only_when_its_earlier_text_is_too(
    bare: Page, is_loaded: bool, written: list[Any], parts: list[Any]
) -> None:
    """On a slow machine, the text before a call is still read when the reply ends."""
    assert await bare.evaluate(SETTLED, [is_loaded, written, parts]) == [True, 50]


COST = """
async ([count, text]) => {
  const { ReplyParts } = await import("/reply_parts.js");
  const { Markdown } = await import("/markdown.js");
  const { addPart } = await import("/parts.js");
  const here = document.getElementById("here");
  const frame = () => new Promise(requestAnimationFrame);
  const shown = new ReplyParts();
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


@pytest.mark.alone
async def test_text_after_many_calls_costs_what_is_new(bare: Page) -> None:
    """The parts before the last one are not drawn again with each piece."""
    writing = "some **bold** words and `code`, [a link](https://e.test/a) in one line\n\n" * 1_500
    few = await bare.evaluate(COST, [1, writing])
    many = await bare.evaluate(COST, [330, writing])
    assert (few["isSame"], many["isSame"]) == (True, True)
    assert many["parts"] == 661
    assert many["cost"] < 2 * few["cost"] + 500, (few, many)
