"""How much the page weighs and how smoothly it goes: figures that are printed and held."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from playwright.async_api import Browser

from tests.browser.conftest import Readers
from tests.browser.support.chromium import wait_for_fact
from tests.support.visitor import script

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.alone,
]

BEFORE_PAINT = 200 * 1024  # bytes
FRAME_P99 = 50.0  # ms
TOKENS = 10_000
RATE = 150  # tokens a second: faster than people read

FRAMES = """
() => {
  window.frames = [];
  let last = performance.now();
  const next = (now) => {
    window.frames.push(now - last);
    last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}
"""
LOADED = """
() => {
  const kinds = ["navigation", "resource"];
  const all = kinds.flatMap((kind) => performance.getEntriesByType(kind));
  const weight = (entries) => entries.reduce((sum, { transferSize }) => sum + transferSize, 0);
  const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  const ours = all.filter(({ name }) => !name.includes("/api/"));
  return {
    paint,
    before: weight(ours.filter(({ responseEnd }) => responseEnd <= paint)),
    whole: weight(ours),
    requests: ours.length,
  };
}
"""
Print = Callable[[str], None]


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Print:
    """Print a figure past pytest's capture, into the output of the run."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="")

    return show


async def test_the_page_is_small_and_usable_soon(
    reader: Readers, browser: Browser, figure: Print
) -> None:
    context = await browser.new_context()
    one = await reader("/", context)
    await wait_for_fact(
        one.page, "performance.getEntriesByName('first-contentful-paint').length > 0"
    )
    usable = "() => document.getElementById('model').options.length > 0 && performance.now()"
    await wait_for_fact(one.page, usable)
    interactive = await one.page.evaluate(usable)
    loaded = await one.page.evaluate(LOADED)
    figure(
        f"bytes before the first paint {loaded['before']:,} of {loaded['whole']:,} in"
        f" {loaded['requests']} requests; first paint {loaded['paint']:.0f} ms,"
        f" of use {interactive:.0f} ms"
    )
    assert loaded["whole"] <= BEFORE_PAINT, "even all of it is to be below the bar"
    await context.close()


async def test_ten_thousand_tokens_stay_smooth(
    reader: Readers, browser: Browser, figure: Print
) -> None:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    one = await reader("/", context)
    await one.page.evaluate(FRAMES)
    words = ("Some **bold** words, a `name` and more of them. " * 8).split(" ")
    pieces = [f"{words[n % len(words)]} " + ("\n\n" if n % 60 == 59 else "") for n in range(TOKENS)]
    await one.begin(script(text=pieces, rate=RATE))
    await wait_for_fact(
        one.page, "document.querySelector('.reply-foot:not([hidden])') !== null", within=300
    )
    frames = sorted(await one.page.evaluate("window.frames"))
    p99 = frames[math.ceil(len(frames) * 0.99) - 1]
    heap = await one.page.evaluate("() => { gc(); return performance.memory.usedJSHeapSize; }")
    figure(
        f"{TOKENS:,} tokens at {RATE}/s: {len(frames):,} frames,"
        f" p50 {frames[len(frames) // 2]:.0f} ms, p99 {p99:.0f} ms, longest {frames[-1]:.0f} ms;"
        f" {heap / 1e6:.1f} MB of memory"
    )
    assert p99 <= FRAME_P99
    await context.close()
