"""The public API as a program calls it: every call is repeated until it is answered."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from httpx_sse import EventSource, connect_sse

from streams.cli.backoff import Patience, Tell, Unreachable

PASSING = frozenset({502, 503, 504})  # what a later try may find changed
CROWDED = PASSING | {429}  # of a stream: the one that broke may be counted yet
SILENCE = 37.5  # seconds without a byte on a stream: two heartbeats have not come, and half a third
ANSWER = 30.0  # seconds for any other answer
CONNECT = 5.0  # seconds
NEAR = frozenset({"127.0.0.1", "localhost", "::1"})


class Refused(Exception):
    """The service says no, in words for a person: asking again would not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """What a message was answered. `cursor` is None where the stream begins with a snapshot."""

    conversation: UUID
    message: UUID
    run: UUID
    cursor: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended. `reply` is the message that holds `text`; `reason`: why there is no more."""

    run: UUID
    reply: UUID | None
    text: str
    tokens: int
    reason: str


class Client:
    """Somebody at the service: the holder of `token`, or the visitor that `cookies` keep."""

    def __init__(self, url: str, *, token: str | None, cookies: Path, tell: Tell) -> None:
        self.url = url
        self.tell = tell
        self._token = token
        self._jar = MozillaCookieJar(cookies)
        if not token and cookies.exists():
            with suppress(LoadError):  # no cookies are in it: this visitor is new
                self._jar.load(ignore_discard=True)
        try:
            near = httpx.URL(url).host in NEAR
            self._http = httpx.Client(
                base_url=url,
                cookies=self._jar,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=httpx.Timeout(ANSWER, connect=CONNECT),
                trust_env=not near,  # a proxy does not reach this machine's own address
            )
        except httpx.InvalidURL:
            raise Unreachable(f"{url} is no address.") from None

    def arrive(self) -> list[str]:
        """Be known to the service; the models that it offers. Raises `Refused`, `Unreachable`."""
        try:
            if not self._token and "csrftoken" not in self._http.cookies:
                self._keep(self._http.get("/"))
            answer = self._http.get("api/models/")
        except httpx.TransportError:
            # The first call is not repeated: a wrong address should not take minutes to be told.
            raise Unreachable(f"Nobody answers at {self.url}: does the service run?") from None
        return [str(offer["id"]) for offer in _read(answer)["items"]]

    def begin(self, message: str, *, system: str | None, model: str | None) -> Accepted:
        """Begin a conversation. Raises `Refused`, `Unreachable`, as all calls from here on."""
        body = {"message": message, "system": system, "model": model}
        return _accepted(self._call("POST", "api/conversations/", body))

    def say(self, conversation: UUID, message: str) -> Accepted:
        """The next message; its reply is written after those that were asked for before."""
        path = f"api/conversations/{conversation}/messages/"
        return _accepted(self._call("POST", path, {"message": message, "when_busy": "queue"}))

    def cancel(self, run: UUID) -> None:
        self._call("POST", f"api/runs/{run}/cancel/", {})

    def outcome(self, run: UUID) -> Outcome | None:
        """How the run ended; None for one that goes on."""
        told = self._call("GET", f"api/runs/{run}/")
        match told["status"]:
            case "queued" | "running":
                return None
            case "completed":
                reason = ""
            case "cancelled":
                reason = "stopped"
            case _:
                reason = f"failed: {told['error']['reason']}"
        return Outcome(
            run=run,
            reply=UUID(told["reply"]) if told["reply"] else None,
            text=told["text"],
            tokens=told["usage"]["output_tokens"],
            reason=reason,
        )

    def newest(self) -> UUID:
        """The conversation that was begun last."""
        items = self._call("GET", "api/conversations/")["items"]
        if not items:
            raise Refused("You have no conversation yet.")
        return UUID(items[0]["id"])

    @contextmanager
    def stream(
        self, conversation: UUID, cursor: int | None, *, until_idle: bool
    ) -> Iterator[EventSource]:
        """One connection that hears the conversation's events after the cursor, whatever status."""
        path = f"api/conversations/{conversation}/events/"
        headers = {} if cursor is None else {"Last-Event-ID": str(cursor)}
        params = {"until": "idle"} if until_idle else {}
        timeout = httpx.Timeout(SILENCE, connect=CONNECT)
        with connect_sse(
            self._http, "GET", path, headers=headers, params=params, timeout=timeout
        ) as source:
            if source.response.is_client_error and source.response.status_code not in CROWDED:
                source.response.read()
                _read(source.response)
            yield source

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # Whoever did not hear the answer may ask again: the key makes it the same request.
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid4()), **self._proof()}
        patience = Patience(self.tell)
        while True:
            least = 0.0
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                pass
            else:
                self._keep(answer)
                if answer.status_code not in PASSING:
                    patience.answered()
                    return _read(answer)
                least = retry_after(answer)
            patience.pause(least)

    def _proof(self) -> dict[str, str]:
        """That it is not a stranger's page which sends this in the session's name."""
        shown = self._http.cookies.get("csrftoken")
        return {"X-CSRFToken": shown} if shown and not self._token else {}

    def _keep(self, answer: httpx.Response) -> None:
        """Keep the session that the answer begins or renews, for the next time."""
        if self._token or "Set-Cookie" not in answer.headers:
            return
        # Another terminal may read it just now: it must never find half of it.
        draft = f"{self._jar.filename}.{os.getpid()}"
        self._jar.save(draft, ignore_discard=True)  # readable by its owner alone
        os.replace(draft, str(self._jar.filename))


def retry_after(answer: httpx.Response) -> float:
    """Seconds that the service asks to be left alone, where it says so in digits."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0


def _accepted(made: dict[str, Any]) -> Accepted:
    ids = {name: UUID(made[name]) for name in ("conversation", "message", "run")}
    return Accepted(**ids, cursor=made["cursor"])


def _read(answer: httpx.Response) -> dict[str, Any]:
    """What the answer says. Raises `Refused`."""
    try:
        told = answer.json()
    except ValueError:
        told = None
    if answer.is_success and isinstance(told, dict):
        return told
    if isinstance(told, dict) and "detail" in told:
        raise Refused(str(told["detail"]))
    place = f"{answer.request.url.scheme}://{answer.request.url.netloc.decode()}"
    raise Refused(f"What answers at {place} is not this service (status {answer.status_code}).")
