"""Hostile replies all the way from the model: 0 dialogs, 0 requests elsewhere, 0 violations."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Readers
from tests.browser.support.hostile import MUTATIONS, PAYLOADS
from tests.support.visitor import script

pytestmark = pytest.mark.asyncio(loop_scope="session")


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 5, 10_000])
async def test_hostile_replies_stay_text(reader: Readers, size: int) -> None:
    one = await reader()
    everything = "\n\n".join([*PAYLOADS, *MUTATIONS])
    await one.begin(script(text=cut(everything, size), rate=800))
    await one.wait_for_replies()
    assert len(await one.text()) > len(everything) / 2
    await one.page.reload()
    await one.wait_for_replies()
    links = await one.page.eval_on_selector_all(".prose a[href]", "all => all.map(a => a.protocol)")
    assert set(links) <= {"https:", "http:", "mailto:"}
    assert await one.page.locator(".prose :is(script, img, svg, iframe, style, form)").count() == 0
    assert (one.seen.dialogs, one.seen.elsewhere, one.seen.errors) == ([], [], [])
    assert await one.violations() == []


async def test_a_hostile_title_and_message_stay_text(reader: Readers) -> None:
    one = await reader()
    await one.begin("<img src=x onerror=alert(1)> **not bold**")
    await one.wait_for_replies()
    assert await one.page.inner_text(".said") == "<img src=x onerror=alert(1)> **not bold**"
    assert await one.page.locator("img").count() == 0
    assert (one.seen.dialogs, one.seen.elsewhere, one.seen.errors) == ([], [], [])
    assert await one.violations() == []


async def test_the_content_policy_forbids_foreign_code(reader: Readers) -> None:
    one = await reader()
    answer = await one.page.request.get(one.origin)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
