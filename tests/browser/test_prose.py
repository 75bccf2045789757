"""Markdown on the page: hostile text stays text, and both readings of a reply agree."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.hostile import PAYLOADS

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What may stand in a reply, and where its links may go; anything else is given back.
STRANGERS = """
(root) => {
  const tags = new Set(("A BLOCKQUOTE BR BUTTON CODE DEL DIV EM H3 H4 H5 H6 HR LI OL P PRE S SPAN "
    + "STRONG TABLE TBODY TD TH THEAD TR UL").split(" "));
  const attributes = new Set(["class", "href", "rel", "target", "align", "start", "type", "role",
    "tabindex", "aria-label", "data-language", "data-copy", "data-coloured"]);
  const found = [];
  for (const node of root.querySelectorAll("*")) {
    if (!tags.has(node.tagName)) found.push(node.outerHTML);
    for (const { name } of node.attributes) if (!attributes.has(name)) found.push(node.outerHTML);
    if (node.tagName !== "A" || !node.hasAttribute("href")) continue;
    if (!/^(https?:|mailto:)/.test(node.getAttribute("href"))) found.push(node.outerHTML);
    if (node.rel !== "noopener noreferrer" || node.target !== "_blank") found.push(node.outerHTML);
  }
  return found;
}
"""
WRITTEN = f"""
async ([text, size]) => {{
  const {{ Prose }} = await import("/prose.js");
  const strangers = {STRANGERS};
  const here = document.getElementById("here");
  const root = here.appendChild(document.createElement("div"));
  const prose = new Prose(root);
  for (let end = size; end < text.length + size; end += size) prose.write(text.slice(0, end), 0);
  const streamed = strangers(root);
  await prose.settle(text);
  return [...streamed, ...strangers(root)];
}}
"""


async def test_no_reply_becomes_more_than_text_however_it_is_cut(bare: Page) -> None:
    seen: list[str] = []
    bare.on("dialog", lambda dialog: seen.append(dialog.message))
    bare.on("request", lambda request: seen.append(request.url) if "/x" in request.url else None)
    await bare.evaluate(
        """document.addEventListener("securitypolicyviolation",
          (event) => (window.refused = event.blockedURI))"""
    )
    for payload in PAYLOADS:
        for size in (1, 2, 3, 7, 1000):
            strangers = await bare.evaluate(WRITTEN, [payload, size])
            assert strangers == [], (payload, size)
    for link in await bare.query_selector_all("#here a:not([href])"):
        await link.evaluate("node => node.click()")
    assert seen == []
    assert await bare.evaluate("window.refused ?? null") is None


TEXT = """# A title

Some *words*, **strong** ones, `code` and [a link](https://example.org/a).
A second line.

1. one
2. two
   - inner

> said

```python
print("x")
```

The end."""


async def test_the_second_reading_leaves_alone_what_it_agrees_with(bare: Page) -> None:
    """A reader who has selected a word in a paragraph still has it when the reply is over."""
    kept = await bare.evaluate(
        """async (text) => {
          const { Prose } = await import("/prose.js");
          const root = document.getElementById("here");
          const prose = new Prose(root);
          for (let end = 1; end <= text.length; end += 1) prose.write(text.slice(0, end), 0);
          const before = [...root.children];
          await prose.settle(text);
          return before.map((node) => [node.tagName, root.contains(node)]);
        }""",
        TEXT,
    )
    assert kept == [
        ["H3", True], ["P", True], ["OL", True], ["BLOCKQUOTE", True], ["DIV", True], ["P", True],
    ]  # fmt: skip


async def test_a_new_epoch_starts_the_text_anew(bare: Page) -> None:
    text = await bare.evaluate(
        """async () => {
          const { Prose } = await import("/prose.js");
          const root = document.getElementById("here");
          const prose = new Prose(root);
          prose.write("The first worker's **wor", 0);
          prose.write("The second's ", 1);
          prose.write("The second's words. ", 1);
          return root.textContent;
        }"""
    )
    assert text.strip() == "The second's words."


async def test_half_a_character_waits_for_its_other_half(bare: Page) -> None:
    text = await bare.evaluate(
        """async () => {
          const { Prose } = await import("/prose.js");
          const root = document.getElementById("here");
          const prose = new Prose(root);
          const said = "A spool \\u{1F9F5} of thread\\n\\n";
          for (let end = 1; end <= said.length; end += 1) prose.write(said.slice(0, end), 0);
          return root.textContent;
        }"""
    )
    assert text.strip() == "A spool \U0001f9f5 of thread"
