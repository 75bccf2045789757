"""A visitor with its own session at the HTTP API."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.follower import Follower

ANSWER_WITHIN = 30.0  # seconds; tests with a tighter limit measure the time themselves


@dataclass(frozen=True, kw_only=True)
class AcceptedRun:
    """The response to a POST that starts a reply, and its duration in seconds."""

    conversation: str
    message: str
    run: str
    cursor: int | None
    events: str
    script: str
    took: float

    @classmethod
    def of(cls, answer: httpx.Response, message: str, *, took: float = 0.0) -> AcceptedRun:
        """The objects that a 202 response names."""
        made = answer.json()
        return cls(
            conversation=made["conversation"],
            message=made["message"],
            run=made["run"],
            cursor=made["cursor"],
            events=made["events"],
            script=message,
            took=took,
        )


def script(**wishes: object) -> str:
    """A message with this script for the scripted model."""
    return json.dumps(wishes)


class Visitor:
    """One anonymous session; `begin_session()` starts it, `close()` closes its connections."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.http = httpx.AsyncClient(
            base_url=f"{'https' if tls else 'http'}://{host}:{port}",
            verify=tls or True,
            timeout=ANSWER_WITHIN,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=0),
            trust_env=False,
        )

    def use_token(self, token: str) -> None:
        """Use this API token, without a session."""
        self.http.headers["Authorization"] = f"Bearer {token}"

    async def begin_session(self) -> None:
        """Begin a session; `GET /` sets the CSRF cookie."""
        (await self.http.get("/")).raise_for_status()
        self.http.headers["X-CSRFToken"] = self.http.cookies["csrftoken"]

    async def close(self) -> None:
        await self.http.aclose()

    def at(self, port: int) -> Visitor:
        """The same session, at another web process."""
        twin = Visitor(self.host, port, tls=self.tls)
        twin.http.cookies = self.http.cookies
        twin.http.headers = self.http.headers
        return twin

    def credentials(self) -> dict[str, str]:
        """The headers that authenticate this visitor."""
        if token := self.http.headers.get("Authorization"):
            return {"Authorization": token}
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        return {"Cookie": cookies}

    def write_credentials(self) -> dict[str, str]:
        """The headers that authenticate a request that changes something."""
        token = self.http.headers.get("X-CSRFToken")
        return self.credentials() | ({"X-CSRFToken": token} if token else {})

    def follower(self, conversation: str, **wishes: Any) -> Follower:
        """A follower of the conversation in this visitor's name; see `Follower` for the rest."""
        where: dict[str, Any] = {"host": self.host, "port": self.port, "tls": self.tls}
        return Follower(
            conversation=conversation, headers=self.credentials(), **{**where, **wishes}
        )

    async def ask(self, message: str, **also: object) -> AcceptedRun:
        """Begin a conversation with this message."""
        return await self._start("/api/conversations/", message, {"message": message, **also})

    async def send(self, conversation: str, message: str, **also: object) -> AcceptedRun:
        """Send the next message of a conversation."""
        path = f"/api/conversations/{conversation}/messages/"
        return await self._start(path, message, {"message": message, **also})

    async def retry(self, run: str, message: str) -> AcceptedRun:
        """Ask for another reply to the same `message`."""
        return await self._start(f"/api/runs/{run}/retry/", message, {})

    async def cancel(self, run: str) -> dict[str, Any]:
        answer = await self.http.post(f"/api/runs/{run}/cancel/")
        return dict(answer.raise_for_status().json())

    async def run(self, run: str) -> dict[str, Any]:
        answer = await self.http.get(f"/api/runs/{run}/")
        return dict(answer.raise_for_status().json())

    async def conversation(self, conversation: str) -> dict[str, Any]:
        """The snapshot, with the messages of all pages."""
        answer = await self.http.get(f"/api/conversations/{conversation}/")
        snapshot = dict(answer.raise_for_status().json())
        earlier = snapshot["earlier"]
        while earlier:
            page = (await self.http.get(earlier)).raise_for_status().json()
            snapshot["messages"] = page["messages"] + snapshot["messages"]
            earlier = page["earlier"]
        return snapshot

    async def conversations(self) -> list[dict[str, Any]]:
        """The first page of this visitor's conversations, the newest first."""
        page = (await self.http.get("/api/conversations/")).raise_for_status().json()
        return list(page["items"] if isinstance(page, dict) else page)

    async def _start(self, path: str, message: str, body: dict[str, object]) -> AcceptedRun:
        begun = time.monotonic()
        answer = await self.http.post(path, json=body)
        took = time.monotonic() - begun
        if answer.status_code != 202:
            raise AssertionError(f"POST {path} gave {answer.status_code}: {answer.text[:300]}")
        return AcceptedRun.of(answer, message, took=took)
