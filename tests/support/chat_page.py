"""A small page with useChat in a browser: its bundle of npm packages, and the messages on it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from playwright.async_api import BrowserContext, Page, Route

from tests.browser.support.chromium import wait_for_fact
from tests.support.ports import HOST

SOURCE = Path(__file__).parents[1] / "dialects" / "pages" / "use_chat.mjs"
BUNDLER = {"esbuild": "0.28.2"}
PATH = "/a-page-of-its-own"
SHELL = (
    '<!doctype html><html lang="en"><head><title>A chat</title></head>'
    f'<body><script type="module" src="{PATH}/chat.js"></script></body></html>'
)
BUNDLED_WITHIN = 60.0  # seconds
SHOWN_WITHIN = 60.0  # seconds for a whole reply on a busy machine


def bundle(project: Path, source: Path = SOURCE) -> Path:
    """The page's script with all that it imports from this project, for a browser."""
    shutil.copy(source, project / source.name)
    made = project / f"{source.stem}.bundle.js"
    command = [
        *("node_modules/.bin/esbuild", source.name, "--bundle", "--format=esm"),
        *(f"--outfile={made}", '--define:process.env.NODE_ENV="production"'),
    ]
    subprocess.run(command, cwd=project, timeout=BUNDLED_WITHIN, check=True, capture_output=True)
    return made


@dataclass(frozen=True, kw_only=True)
class ChatPage:
    """One tab with one chat. The test serves the page and its script, the service the rest."""

    page: Page
    chat: str

    @classmethod
    async def open(cls, context: BrowserContext, script: Path, port: int) -> ChatPage:
        origin, chat = f"http://{HOST}:{port}", uuid4().hex

        async def serve(route: Route) -> None:
            if route.request.url.endswith(".js"):
                await route.fulfill(path=script, content_type="text/javascript")
            else:
                await route.fulfill(body=SHELL, content_type="text/html")

        await context.route(f"{origin}{PATH}/**", serve)
        page = await context.new_page()
        await page.goto(origin)  # it sets the cookies of a visitor
        await page.goto(f"{origin}{PATH}/?chat={chat}")
        opened = cls(page=page, chat=chat)
        await opened.wait_for("() => document.querySelector('main')")
        return opened

    async def ask(self, text: str) -> None:
        await self.page.locator("input").fill(text)
        await self.page.locator("input").press("Enter")

    async def stop(self) -> None:
        await self.page.locator("button").click()

    async def wait_for(self, fact: str, arg: Any = None) -> None:
        await wait_for_fact(self.page, fact, arg, within=SHOWN_WITHIN)

    async def wait_for_status(self, status: str) -> None:
        await self.wait_for(
            "status => document.querySelector('main')?.dataset.status === status", status
        )

    async def wait_for_text(self, count: int) -> None:
        """Wait until the last reply has at least `count` characters."""
        await self.wait_for(
            "n => [...document.querySelectorAll('.assistant')].at(-1)?.textContent.length >= n",
            count,
        )

    async def shown(self) -> list[dict[str, str]]:
        """The messages on the page: id, role and text."""
        found: list[dict[str, str]] = await self.page.evaluate(
            "() => [...document.querySelectorAll('article')]"
            ".map(({id, className, textContent}) => ({id, role: className, text: textContent}))"
        )
        return found

    async def error(self) -> str:
        return str(await self.page.locator("output").text_content())

    async def stored(self) -> list[dict[str, str]]:
        """The messages that the service has stored, in the same form."""
        messages: list[dict[str, Any]] = await self.page.evaluate(
            "chat => fetch(`/api/chat/${chat}/messages`).then((answer) => answer.json())",
            self.chat,
        )
        return [
            {
                "id": message["id"],
                "role": message["role"],
                "text": "".join(
                    part["text"] for part in message["parts"] if part["type"] == "text"
                ),
            }
            for message in messages
        ]

    async def check(self) -> str:
        """Compare the page with the stored messages. Returns the last message's text."""
        shown, stored = await asyncio.gather(self.shown(), self.stored())
        assert shown == stored
        return shown[-1]["text"]
