"""Pages of the AI SDK for tests: the vendor's client in Node, and a check of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.vendors import VendorPage, VendorProcess
from tests.support.visitor import Visitor

SCRIPT = Path(__file__).parents[1] / "dialects" / "clients" / "ai_sdk.mjs"
PACKAGES: Mapping[str, Mapping[str, str]] = {
    "5": {
        "ai": "5.0.277",
        "@ai-sdk/react": "2.0.280",
        "react": "19.2.0",
        "react-dom": "19.2.0",
        "zod": "4.1.13",
    },
    "6": {
        "ai": "6.0.326",
        "@ai-sdk/react": "3.0.328",
        "react": "19.2.0",
        "react-dom": "19.2.0",
        "zod": "4.1.13",
    },
    "7": {
        "ai": "7.0.173",
        "@ai-sdk/react": "4.0.177",
        "@ai-sdk/workflow": "2.0.43",
        "react": "19.2.0",
        "react-dom": "19.2.0",
        "zod": "4.1.13",
    },
}
# The clients, each with the options of its page.
CLIENTS: Mapping[str, Mapping[str, Any]] = {
    "5": {"version": "5", "drops": True},
    "6": {"version": "6"},
    "7": {"version": "7", "says": True},
    "7 unnamed": {"version": "7"},
    "workflow": {"version": "7", "kind": "workflow"},
    "workflow prepared": {"version": "7", "kind": "workflow", "prepared": True},
}


@dataclass(kw_only=True)
class Page(VendorPage):
    """One chat in one of `CLIENTS`."""

    kind: str
    id: str

    @classmethod
    async def open(
        cls,
        client: VendorProcess,
        visitor: Visitor,
        kind: str,
        *,
        port: int | None = None,
        id: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Page:
        """Open a chat. `body` has the page's own fields of each request."""
        options = dict(CLIENTS[kind])
        version, says = options.pop("version"), options.pop("says", False)
        page = cls(
            client=client,
            visitor=visitor,
            kind=kind,
            port=port or visitor.port,
            id=id or uuid4().hex[:16],
        )
        await page.begin(
            "/api/chat",
            also={"x-ai-sdk-version": version} if says else {},
            id=page.id,
            messages=messages or [],
            body=body or {},
            **options,
        )
        return page

    async def chat(self) -> str:
        """The chat's name at the service. For a `WorkflowChatTransport`, the first message's id."""
        if self.kind == "workflow":
            return str((await self.do("look"))["messages"][0]["id"])
        return self.id

    async def stored(self) -> list[dict[str, Any]]:
        answer = await self.visitor.http.get(f"/api/chat/{await self.chat()}/messages")
        return list(answer.raise_for_status().json())

    async def check(self) -> list[dict[str, Any]]:
        """Compare the page with the stored messages. Returns the messages."""
        shown = comparable((await self.do("look"))["messages"])
        stored = comparable(await self.stored())
        assert shown == stored, (shown, stored)
        return shown


def comparable(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without steps and metadata, which only a page keeps."""
    return [
        {
            "id": message["id"],
            "role": message["role"],
            "parts": [
                {name: part[name] for name in KEPT if name in part}
                for part in message["parts"]
                if part["type"] != "step-start"
            ],
        }
        for message in messages
    ]


KEPT = (
    *("type", "text", "toolCallId", "toolName", "input", "output", "errorText"),
    *("sourceId", "url", "title", "mediaType", "data"),
)
