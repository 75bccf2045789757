"""The terminal client's HTTP: each call and each stream is retried until the service answers."""

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

from streams.protocol.events import EVENTS, Event, Snapshot
from streams.protocol.sse import decode
from streams.protocol.stream_frames import Heartbeat, StreamError, StreamReset

RETRYABLE = (502, 503, 504)
STREAM_RETRYABLE = (429, *RETRYABLE)  # the service may still count a stream that was just cut
ANSWER = httpx.Timeout(30.0, connect=5.0)  # seconds
SILENCE = httpx.Timeout(37.5, connect=5.0)  # for a stream: two and a half heartbeat intervals
GIVE_UP = 600.0  # seconds of retries; a restart takes seconds, a bad deployment minutes

Note = Callable[[str], None]  # prints a line for the user
Events = Generator[Event | Snapshot, None, None]


class ClientError(Exception):
    """The service refuses the call, or has not answered for too long. The text is for the user."""


class Backoff:
    """Waits between the tries of one call, and prints notes when the service is lost and back."""

    def __init__(self, note: Note) -> None:
        self._note, self._tries, self._since = note, 0, 0.0

    def wait(self, least: float) -> None:
        """Sleep before the next try, `least` seconds or longer. Raises `ClientError`."""
        if not self._tries:
            self._since = time.monotonic()
            self._note("reconnecting…")
        elif time.monotonic() - self._since > GIVE_UP:
            raise ClientError(f"The service has not answered for {GIVE_UP / 60:.0f} minutes.")
        time.sleep(max(least, min(8.0, 0.4 * 2**self._tries) * random.uniform(0.5, 1.5)))
        self._tries += 1

    def answered(self) -> None:
        """Reset the waiting time, because the service has answered."""
        if self._tries:
            self._note("back, nothing lost")
        self._tries = 0


class Client:
    """Calls the service at `url`, with an API token or as the visitor stored in file `cookies`."""

    def __init__(self, url: str, token: str | None, cookies: Path, note: Note) -> None:
        """Raises `ClientError` at once if the service does not answer: the URL may be wrong."""
        self._note, self._jar = note, MozillaCookieJar(cookies)
        with suppress(LoadError, FileNotFoundError):  # without a valid file: a new session
            self._jar.load(ignore_discard=True)
        try:
            # A proxy from the environment cannot reach this machine's loopback address.
            proxies = httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1")
            self._http = httpx.Client(base_url=url, timeout=ANSWER, trust_env=proxies)
            if token:
                self._http.headers["Authorization"] = f"Bearer {token}"
            else:
                self._http.cookies.jar = self._jar
                self._http.event_hooks = {"response": [self._save_cookies]}
            self._http.get("/")  # the response sets the visitor's cookies
        except (httpx.InvalidURL, httpx.TransportError):
            raise ClientError(f"No answer from {url}. Is the service running?") from None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object of the successful response. Raises `ClientError`."""
        # All tries have the same key, so a POST whose response was lost is accepted only once.
        csrf = self._http.cookies.get("csrftoken") or ""
        headers = {"Idempotency-Key": str(uuid4()), "X-CSRFToken": csrf} if body is not None else {}
        backoff = Backoff(self._note)
        while True:
            least = 0.0
            with suppress(httpx.TransportError):
                answer = self._http.request(method, path, json=body, headers=headers)
                if answer.status_code not in RETRYABLE:
                    backoff.answered()
                    return _json(answer)
                least = _retry_after(answer)
            backoff.wait(least)

    def events(self, conversation: UUID, cursor: int | None) -> Events:
        """The events after the cursor, each once, over as many connections as needed.

        Without a cursor, a snapshot comes first. The generator never ends by itself.
        Raises `ClientError`.
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
                        _json(sses.response)
                    for sse in sses.iter_sse() if status == 200 else ():
                        retry = retry if sse.retry is None else sse.retry / 1000
                        if sse.event == Heartbeat.type and json.loads(sse.data)["head"] is None:
                            continue  # Redis is unavailable, so this connection has no events yet
                        backoff.answered()
                        if sse.event == StreamError.type:
                            raise ClientError(json.loads(sse.data)["text"])
                        if sse.event == StreamReset.type:
                            cursor = None  # a connection after this one must begin with a snapshot
                            self._note("the event log was lost: this is the text as it is now")
                        elif sse.event in EVENTS or sse.event == Snapshot.type:
                            cursor = int(sse.id)
                            yield decode(sse.event, sse.data)
            except httpx.TransportError:
                pass  # the next connection continues after the cursor, without loss
            except SSEError:
                raise ClientError("The service does not answer with an event stream.") from None
            backoff.wait(max(least, retry))

    def _save_cookies(self, answer: httpx.Response) -> None:
        if "Set-Cookie" in answer.headers:
            # Write, then rename, because another terminal may be reading the file.
            draft = f"{self._jar.filename}.{os.getpid()}"
            self._jar.save(draft, ignore_discard=True)  # readable only by the file's owner
            os.replace(draft, str(self._jar.filename))


def _retry_after(answer: httpx.Response) -> float:
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _json(answer: httpx.Response) -> dict[str, Any]:
    with suppress(ValueError, KeyError, TypeError):
        parsed: dict[str, Any] = answer.json()
        if answer.is_success:
            return parsed
        raise ClientError(parsed["detail"])
    raise ClientError(f"This is not the service: {answer.url} has status {answer.status_code}.")
