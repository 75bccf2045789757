"""Markdown on the page: hostile text stays text, and a reply has one reading."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.support.hostile import MUTATIONS, PAYLOADS
from tests.browser.support.markdown_scripts import QUADRATIC, TEXT, WRITTEN
from tests.browser.support.readings import MORE, PIECEWISE, READINGS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_no_reply_becomes_active_markup_at_any_cut(bare: Page) -> None:
    seen: list[str] = []
    bare.on("dialog", lambda dialog: seen.append(dialog.message))
    bare.on("request", lambda request: seen.append(request.url) if "/x" in request.url else None)
    await bare.evaluate(
        """document.addEventListener("securitypolicyviolation",
          (event) => (window.refused = event.blockedURI))"""
    )
    for payload in [*PAYLOADS, *MUTATIONS]:
        for size in (1, 2, 3, 7, 1000):
            strangers = await bare.evaluate(WRITTEN, [payload, size])
            assert strangers == [], (payload, size)
    for link in await bare.query_selector_all("#here a:not([href])"):
        await link.evaluate("node => node.click()")
    assert seen == []
    assert await bare.evaluate("window.refused ?? null") is None


async def test_the_rendered_text_does_not_change_when_the_reply_ends(bare: Page) -> None:
    """A selected word stays selected when the reply ends."""
    kept = await bare.evaluate(
        """async (text) => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here");
          const markdown = new Markdown(root);
          for (let end = 1; end <= text.length; end += 1) markdown.write(text.slice(0, end), 0);
          const before = [...root.children];
          await markdown.settle(text);
          return before.map((node) => [node.tagName, root.contains(node)]);
        }""",
        TEXT,
    )
    assert kept == [
        ["H3", True], ["P", True], ["OL", True], ["BLOCKQUOTE", True], ["DIV", True], ["P", True],
    ]  # fmt: skip


async def test_a_reply_is_plain_until_the_markdown_modules_are_loaded(bare: Page) -> None:
    plain, final, whole, html, at_last = await bare.evaluate(
        """async () => {
          const { ReplyText } = await import("/reply_text.js");
          const root = document.getElementById("here");
          const reply = new ReplyText(root);
          const more = reply.write("Some **bo", 0);
          const plain = [more, root.textContent];
          const settled = reply.settle("Some **bold** words.");
          const final = [reply.isWhole("Some **bold** words."), root.textContent];
          await settled;
          const whole = reply.isWhole("Some **bold** words.");
          const another = document.createElement("div");
          new ReplyText(another).write("At **last**, ", 0);
          return [plain, final, whole, root.innerHTML, another.querySelector("strong").textContent];
        }"""
    )
    assert plain == [True, "Some **bo"]
    assert final == [False, "Some **bold** words."]
    assert (whole, html) == (True, '<p dir="auto">Some <strong>bold</strong> words.</p>')
    assert at_last == "last"


async def test_plain_text_gives_way_to_all_of_the_formatted_text_at_once(bare: Page) -> None:
    """A long paragraph on a machine so slow that each step of its reading takes a whole slice."""
    text = "One **word** more. " * 200
    shown = await bare.evaluate(
        """async (text) => {
          const { ReplyText } = await import("/reply_text.js");
          const reply = new ReplyText(document.getElementById("here"));
          reply.write(text, 0);
          await new ReplyText(document.createElement("div")).settle("The modules are loaded.");
          let now = 0;
          performance.now = () => (now += 1_000);
          reply.write(text, 0);
          return document.getElementById("here").innerText;
        }""",
        text,
    )
    assert shown == text.replace("**", "").strip()


async def test_a_reply_stays_plain_where_the_markdown_modules_cannot_be_loaded(bare: Page) -> None:
    await bare.context.route("**/markdown_rules.js", lambda route: route.abort())
    whole, shown, tried_again = await bare.evaluate(
        """async () => {
          const { ReplyText } = await import("/reply_text.js");
          const root = document.getElementById("here");
          const reply = new ReplyText(root);
          await reply.settle("Some **bold** words.");
          const whole = reply.isWhole("Some **bold** words.");
          return [whole, root.textContent, reply.write("Some **bold** words. More", 0)];
        }"""
    )
    assert whole
    assert shown.endswith("plain text.Some **bold** words.")
    assert not tried_again


async def test_a_new_revision_restarts_the_text(bare: Page) -> None:
    text = await bare.evaluate(
        """async () => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here");
          const markdown = new Markdown(root);
          markdown.write("The first worker's **wor", 0);
          markdown.write("The second's ", 1);
          markdown.write("The second's words. ", 1);
          return root.textContent;
        }"""
    )
    assert text.strip() == "The second's words."


async def test_half_a_surrogate_pair_waits_for_the_other_half(bare: Page) -> None:
    text = await bare.evaluate(
        """async () => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here");
          const markdown = new Markdown(root);
          const said = "A spool \\u{1F9F5} of thread\\n\\n";
          for (let end = 1; end <= said.length; end += 1) markdown.write(said.slice(0, end), 0);
          return root.textContent;
        }"""
    )
    assert text.strip() == "A spool \U0001f9f5 of thread"


@pytest.mark.parametrize("text", [*READINGS, *MORE])
async def test_a_reply_renders_the_same_at_every_cut(bare: Page, text: str) -> None:
    shown, differing = await bare.evaluate(PIECEWISE, [text, [1, 2, 3, 7]])
    assert differing == []
    if text in READINGS:
        assert shown == READINGS[text]


async def test_closed_blocks_are_not_rendered_again(bare: Page) -> None:
    """While it streams nothing is shown that the end contradicts, but in the open block."""
    text = "\n\n".join([*READINGS, *MORE[:2]])
    touched = await bare.evaluate(
        """async (text) => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here").appendChild(document.createElement("div"));
          const markdown = new Markdown(root);
          const wrong = [];
          let closed = [];
          for (let end = 1; end <= text.length; end += 1) {
            markdown.write(text.slice(0, end), 0);
            const now = [...root.children].slice(0, -2);
            closed.forEach(([node, html], place) => {
              const isKept = root.children[place] === node && node.textContent === html;
              if (!isKept) wrong.push([end, html]);
            });
            closed = now.map((node) => [node, node.textContent]);
          }
          await markdown.settle(text);
          return [wrong, closed.length];
        }""",
        text,
    )
    assert touched[0] == []
    assert touched[1] > 20


@pytest.mark.alone
@pytest.mark.parametrize("name", QUADRATIC)
async def test_rendering_time_grows_linearly_with_the_length(bare: Page, name: str) -> None:
    text = QUADRATIC[name]
    quarter, whole, words = await bare.evaluate(
        """async (text) => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here").appendChild(document.createElement("div"));
          const took = async (some) => {
            const start = performance.now();
            await new Markdown(root).settle(some);
            return performance.now() - start;
          };
          await took(text.slice(0, 4000));
          const quarter = await took(text.slice(0, text.length / 4));
          const whole = await took(text);
          return [quarter, whole, root.textContent.replace(/\\W/g, "").length];
        }""",
        text,
    )
    assert whole < 8 * quarter + 1_000, (quarter, whole)
    assert words >= len([sign for sign in text if sign.isalnum()])


async def test_code_is_copied_without_a_final_line_feed(bare: Page) -> None:
    copied = await bare.evaluate(
        """async () => {
          const { Markdown } = await import("/markdown.js");
          const { copyable } = await import("/code_blocks.js");
          const root = document.getElementById("here");
          const item = "- ```sh\\n  rm x\\n\\n  ```";
          await new Markdown(root).settle("```sh\\nls \\\\\\n  -l\\n\\n  \\n```\\n\\n" + item);
          return [...root.querySelectorAll("code")].map(copyable);
        }"""
    )
    assert copied == ["ls \\\n  -l", "rm x"]


async def test_each_block_has_the_direction_of_its_own_text(bare: Page) -> None:
    text = (
        "مرحبا بالعالم\n\nHello\n\n- שלום `code` עולם\n- English\n\n  سلام\n\n"
        "> نقل قول\n\n# عنوان\n\n| الاسم | x |\n|---|---|\n| قيمة | abc |\n\n```\nسلام\n```"
    )
    found = await bare.evaluate(
        """async (text) => {
          const { Markdown } = await import("/markdown.js");
          const root = document.getElementById("here");
          await new Markdown(root).settle(text);
          const blocks = root.querySelectorAll("p, li, blockquote, h3, table, td, code, pre");
          const direction = (block) => getComputedStyle(block).direction;
          return [...blocks].map((block) => `${block.localName} ${direction(block)}`);
        }""",
        text,
    )
    assert found == [
        "p rtl", "p ltr", "li rtl", "code ltr", "li ltr", "p ltr", "p rtl", "blockquote rtl",
        "p rtl", "h3 rtl", "table rtl", "td rtl", "td ltr", "pre ltr", "code ltr",
    ]  # fmt: skip


async def test_text_is_cut_between_grapheme_clusters(bare: Page) -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
    for sign in (family, "\U0001f1e9\U0001f1ea", "e\u0301", "हि", "x"):
        cut = await bare.evaluate(
            """async ([text]) => {
              const { beginning } = await import("/dom.js");
              return [beginning(text, 80), beginning(text, 80, 50), beginning(text, 1000)];
            }""",
            [sign * 90],
        )
        units = len(sign.encode("utf-16-le")) // 2
        assert cut == [sign * 80, sign * min(50 // units, 80), sign * 90]
