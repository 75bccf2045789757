"""Long replies on the page: they leave it its turns, and their reading costs what it must."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

# One block each, which closes at the end of the reply alone.
OPEN = {
    "paragraph": "some **bold** words and `code`, [a link](https://e.test/a) in one line ",
    "lines": "some words of *one* paragraph in a line\n",
    "item": "- an item\n" + "  - a nested item of **a list** with `code`\n",
    "code": "1. Do this:\n\n   ```python\n" + "   x = compute(1, 2)  # what\n",
    "quote": "> said **bold** words here\n>\n> and more *of* it\n",
}
STREAMED = """
async ([text, size]) => {
  const { Markdown } = await import("/markdown.js");
  const here = document.getElementById("here");
  const frame = () => new Promise(requestAnimationFrame);
  const place = () => here.appendChild(document.createElement("div"));
  const [streamed, whole] = [place(), place()];
  const markdown = new Markdown(streamed);
  await new Markdown(document.createElement("div")).settle(text.slice(0, 4000));
  let cost = 0;
  let end = 0;
  let least = "";
  for (let more = true; more;) {
    await frame();
    end = Math.min(end + size, text.length);
    const start = performance.now();
    more = markdown.write(text.slice(0, end), 0) || end < text.length;
    cost += performance.now() - start;
    if (end === text.length) least = streamed.textContent;
  }
  await markdown.settle(text);
  const start = performance.now();
  await new Markdown(whole).settle(text);
  return {
    cost, once: performance.now() - start, isSame: streamed.innerHTML === whole.innerHTML,
    shown: least.length, text: text.length, plain: whole.querySelectorAll(".plain").length,
  };
}
"""


@pytest.mark.alone
@pytest.mark.parametrize("name", OPEN)
async def test_one_long_block_is_not_parsed_again_with_each_delta(bare: Page, name: str) -> None:
    first, _, line = OPEN[name].rstrip("\n").rpartition("\n")
    text = f"{first}\n" * (first != "") + f"{line}\n" * (150_000 // len(line))
    if name == "paragraph":
        text = OPEN[name] * 2_000
    seen = await bare.evaluate(STREAMED, [text, 600])
    assert seen["isSame"]
    assert seen["plain"] == 0
    assert seen["shown"] > 0.9 * seen["text"]  # while it streams it is all there, though plain
    assert seen["cost"] < 4 * seen["once"] + 1_500, seen


async def test_a_long_reply_keeps_the_page_responsive(bare: Page) -> None:
    text = "Some *words* and **strong** ones, [a link](https://e.test/a).\n\n- an item\n\n" * 2_500
    turns, took = await bare.evaluate(
        """async (text) => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here").appendChild(document.createElement("div"));
          let turns = 0;
          const timer = setInterval(() => (turns += 1), 0);
          const start = performance.now();
          await new Markdown(root).settle(text);
          clearInterval(timer);
          return [turns, performance.now() - start];
        }""",
        text,
    )
    assert turns >= 5, took


async def test_a_text_too_long_to_format_stays_plain_with_a_note(bare: Page) -> None:
    text = "A line with **bold** words.\n\n" * 12_000 + "**The end.**"
    for size in (12_000, 400_000):
        plain = await bare.evaluate(
            """async ([text, size]) => {
              const { Markdown } = await import("/markdown.js");
              const root = document.createElement("div");
              document.getElementById("here").replaceChildren(root);
              const markdown = new Markdown(root);
              for (let end = size; end < text.length; end += size) {
                markdown.write(text.slice(0, end), 0);
              }
              await markdown.settle(text);
              const [why, rest] = [...root.children].slice(-2);
              const lines = root.querySelectorAll("strong").length;
              const { length } = root.querySelectorAll(".plain");
              return [why.textContent, rest.textContent, lines, length];
            }""",
            [text, size],
        )
        assert "plain text" in plain[0]
        assert plain[1].endswith("words.\n\n**The end.**")
        assert plain[2] + plain[1].count("**bold**") == 12_000
        assert plain[3] == 1
