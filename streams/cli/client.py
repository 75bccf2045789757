"""The HTTP API as the terminal client calls it. Each call is repeated until it is answered."""

import json
import os
import random
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from httpx_sse import SSEError, connect_sse

from streams.protocol.events import EVENTS, Event, Heartbeat, Snapshot, StreamError, StreamReset
from streams.protocol.sse import decode

RETRYABLE = frozenset({502, 503, 504})
STREAM_RETRYABLE = RETRYABLE | {429}  # a stream that was just cut may still be counted
ANSWER = httpx.Timeout(30.0, connect=5.0)  # seconds
SILENCE = httpx.Timeout(37.5, connect=5.0)  # of a stream: two and a half heartbeats are missing
FIRST, LONGEST = 0.4, 8.0  # seconds before the first retry, and at most between two
GIVE_UP = 600.0  # seconds of retries; a restart takes seconds, a bad deployment minutes

Note = Callable[[str], None]  # prints a line for the user
Events = Generator[Event | Snapshot, None, None]


class ClientError(Exception):
    """The service refuses the call, or has not answered for too long. The text is for the user."""


class Backoff:
    """Waits between the tries of one call. `note` is told when the service is lost and back."""

    def __init__(self, note: Note) -> None:
        self._note, self._tries, self._since = note, 0, 0.0

    def wait(self, least: float) -> None:
        """Sleep before the next try, `least` seconds or longer. Raises `ClientError`."""
        if not self._tries:
            self._since = time.monotonic()
            self._note("reconnecting…")
        elif time.monotonic() - self._since > GIVE_UP:
            raise ClientError(f"The service has not answered for {GIVE_UP / 60:.0f} minutes.")
        delay = min(LONGEST, FIRST * 2**self._tries) * random.uniform(0.5, 1.5)
        self._tries += 1
        time.sleep(max(least, delay))

    def answered(self) -> None:
        if self._tries:
            self._tries = 0
            self._note("back, nothing lost")


class Client:
    """The service at `url`, for the holder of `token` or for the visitor kept in `cookies`."""

    def __init__(self, url: str, token: str | None, cookies: Path, note: Note) -> None:
        """Raises `ClientError` at once where nothing answers, because the URL may be wrong."""
        self._note, self._token, self._jar = note, token, MozillaCookieJar(cookies)
        if not token and cookies.exists():
            with suppress(LoadError):  # the file holds no cookies: begin a new session
                self._jar.load(ignore_discard=True)
        try:
            # A proxy of the environment cannot reach this machine's own address.
            proxies = httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._http = httpx.Client(
                base_url=url, cookies=self._jar, headers=headers, timeout=ANSWER, trust_env=proxies
            )
            self._save_cookies(self._http.get("/"))  # begins the visitor's session
        except (httpx.InvalidURL, httpx.TransportError):
            raise ClientError(f"No answer from {url}. Is the service running?") from None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON. Raises `ClientError`."""
        # All tries carry one key, so a POST whose answer was lost is accepted once.
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid4())}
        if method != "GET" and not self._token:
            headers["X-CSRFToken"] = self._http.cookies.get("csrftoken") or ""
        backoff = Backoff(self._note)
        while True:
            least = 0.0
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                pass
            else:
                self._save_cookies(answer)
                if answer.status_code not in RETRYABLE:
                    backoff.answered()
                    with suppress(ValueError):
                        if answer.is_success and isinstance(made := answer.json(), dict):
                            return made
                    raise _refusal(answer)
                least = _retry_after(answer)
            backoff.wait(least)

    def events(self, conversation: UUID, cursor: int | None) -> Events:
        """The events after the cursor, each once, over as many connections as needed.

        Without a cursor, a snapshot comes first. It never ends. Raises `ClientError`.
        """
        backoff, retry = Backoff(self._note), 0.0
        path = f"api/conversations/{conversation}/events/"
        while True:
            least, headers = 0.0, {} if cursor is None else {"Last-Event-ID": str(cursor)}
            try:
                with connect_sse(self._http, "GET", path, headers=headers, timeout=SILENCE) as sses:
                    least, status = _retry_after(sses.response), sses.response.status_code
                    if status != 200 and status not in STREAM_RETRYABLE:
                        sses.response.read()
                        raise _refusal(sses.response)
                    for sse in sses.iter_sse() if status == 200 else ():
                        retry = retry if sse.retry is None else sse.retry / 1000
                        if sse.event == Heartbeat.type and json.loads(sse.data)["head"] is None:
                            continue  # Redis is away: this connection brings no events yet
                        backoff.answered()
                        if sse.event == StreamError.type:
                            raise ClientError(json.loads(sse.data)["text"])
                        if sse.event == StreamReset.type:
                            cursor = None  # a cut before the snapshot must not skip the snapshot
                            self._note("the event log was lost: this is the text as it is now")
                        elif sse.event in EVENTS or sse.event == Snapshot.type:
                            cursor = int(sse.id)
                            yield decode(sse.event, sse.data)
            except httpx.TransportError:
                pass  # nothing is lost: the next connection goes on after the cursor
            except SSEError:
                raise ClientError("The service does not answer with an event stream.") from None
            backoff.wait(max(least, retry))

    def _save_cookies(self, answer: httpx.Response) -> None:
        if not self._token and "Set-Cookie" in answer.headers:
            # Write, then rename: another terminal may read the file at this moment.
            draft = f"{self._jar.filename}.{os.getpid()}"
            self._jar.save(draft, ignore_discard=True)  # readable by its owner alone
            os.replace(draft, str(self._jar.filename))


def _retry_after(answer: httpx.Response) -> float:
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _refusal(answer: httpx.Response) -> ClientError:
    with suppress(ValueError, KeyError, TypeError):
        return ClientError(str(answer.json()["detail"]))
    return ClientError(f"This is not the service: {answer.url} has status {answer.status_code}.")
