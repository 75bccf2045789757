"""A user at the page: opens it, writes, reads, and detects forbidden requests and dialogs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

from tests.browser.support.chromium import wait_for_fact

TYPED_WITHIN = 10.0  # seconds for anything that the page does by itself
WRITTEN_WITHIN = 60.0  # seconds for a whole reply on a busy machine

# Collects policy violations: each is an event on the page that names the refused resource.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""

# Evaluates LOOK before each painted frame. Resize observers run last before a frame is painted, and
# this one runs after the page's own, because it is the newest.
PAINTED = """
() => {
  const probe = document.body.appendChild(document.createElement("div"));
  probe.style.cssText = "position: fixed; width: 1px; visibility: hidden";
  window.painted = [];
  new ResizeObserver(() => window.painted.push(LOOK)).observe(probe);
  const next = () => {
    probe.style.height = probe.style.height === "1px" ? "2px" : "1px";
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}
"""


@dataclass
class Seen:
    """The faults that a reader saw: dialogs, requests to other origins, errors on the page."""

    dialogs: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Reader:
    """One tab. `await Reader.at(context, url)`; readers of one context share a session."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.seen = Seen()
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.seen.errors.append(str(error)))
        page.on("console", self._console)

    @classmethod
    async def at(cls, context: BrowserContext, origin: str, path: str = "/") -> Reader:
        page = await context.new_page()
        await page.add_init_script(WATCH)
        reader = cls(page, origin)
        await page.goto(f"{origin}{path}")
        return reader

    async def ask(self, message: str) -> None:
        await self.page.fill("#message", message)
        await self.page.press("#message", "Enter")

    async def begin(self, message: str) -> str:
        """Ask in a new conversation. Returns its path."""
        await self.ask(message)
        await self.page.wait_for_url("**/c/*", timeout=TYPED_WITHIN * 1000)
        return self.page.url.removeprefix(self.origin)

    async def wait_for_length(self, characters: int) -> None:
        """Wait until the last reply has at least this many characters on the page."""
        fact = "n => [...document.querySelectorAll('.prose')].at(-1)?.textContent.length >= n"
        await wait_for_fact(self.page, fact, characters, within=WRITTEN_WITHIN)

    async def wait_for_replies(self, replies: int = 1) -> None:
        """Wait until no reply is being written, and this many replies are on the page."""
        fact = """n => document.querySelectorAll('.reply').length >= n
            && !document.querySelector('.reply.live, .reply[aria-busy=true]')
            && document.getElementById('stop').hidden"""
        await wait_for_fact(self.page, fact, replies, within=WRITTEN_WITHIN)

    async def text(self) -> str:
        """The last reply's text on the page, without spaces around it. Empty if there is none."""
        found: str = await self.page.evaluate(
            "() => [...document.querySelectorAll('.prose')].at(-1)?.textContent.trim() ?? ''"
        )
        return found

    async def state(self) -> str:
        return await self.page.get_attribute("#connection", "data-state") or ""

    async def wait_for_state(self, *states: str) -> None:
        """Wait until the page shows the connection in one of these states."""
        fact = "s => s.includes(document.getElementById('connection').dataset.state)"
        await wait_for_fact(self.page, fact, list(states), within=WRITTEN_WITHIN)

    async def facts(self) -> dict[str, str]:
        """The texts of the developer view, by their labels."""
        if await self.page.is_hidden("#panel"):
            await self.page.click("#connection")
        await self.page.wait_for_selector("#facts dd")
        rows: list[list[str]] = await self.page.eval_on_selector_all(
            "#facts > div", "rows => rows.map(row => [...row.children].map(c => c.textContent))"
        )
        return {row[0]: row[1] for row in rows}

    async def watch(self, look: str) -> None:
        """Append the value of this JavaScript to `window.painted` at each frame from now on."""
        await self.page.evaluate(PAINTED.replace("LOOK", look.strip()))

    async def violations(self) -> list[str]:
        found: list[str] = await self.page.evaluate("window.violations")
        return found

    async def run(self) -> Any:
        """The last reply's run, as the API returns it to this reader."""
        return await self.page.evaluate(
            """async () => {
              const reply = [...document.querySelectorAll('.reply[data-run]')].at(-1);
              return (await fetch(`/api/runs/${reply.dataset.run}/`)).json();
            }"""
        )

    async def _dialog(self, dialog: Dialog) -> None:
        self.seen.dialogs.append(dialog.message)
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.seen.elsewhere.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        # The browser itself logs a connection that a test has cut on purpose.
        if message.type == "error" and "net::ERR" not in message.text:
            self.seen.errors.append(f"{message.text} {message.location['url']}")


Readers = Callable[..., Awaitable[Reader]]
