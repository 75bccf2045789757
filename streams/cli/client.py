"""The terminal client's HTTP: each call and each stream is repeated until the service answers."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from httpx_sse import connect_sse

AWAY = (502, 503, 504)
TIMEOUT = httpx.Timeout(37.5, connect=5.0)  # seconds: two and a half heartbeat intervals
Events = Iterator[tuple[str, Any]]  # the type of each event, and its data


class ClientError(Exception):
    """The service refuses the call, or does not answer. The text is for the user."""


class Client:
    """Calls the service at `url`, with an API token or as the visitor stored in `folder`."""

    def __init__(
        self, url: str, token: str | None, folder: Path, note: Callable[[str], None]
    ) -> None:
        """Raises `ClientError` at once if there is no answer, because the URL may be wrong."""
        self._note, self._lost = note, False
        try:
            site = httpx.URL(url)
            name = site.netloc.decode().replace(":", "-")
            jar = MozillaCookieJar(folder / f"chat-{name}.cookies")
            with suppress(LoadError, FileNotFoundError):  # no valid file, so a new session
                jar.load(ignore_discard=True)
            # A proxy from the environment cannot reach this machine's loopback address.
            proxies = site.host not in ("127.0.0.1", "localhost", "::1")
            self._http = httpx.Client(base_url=url, cookies=jar, timeout=TIMEOUT, trust_env=proxies)
            self._http.get("/")  # the response sets the visitor's cookies
        except (httpx.InvalidURL, httpx.TransportError):
            raise ClientError(f"No answer from {url}. Is the service running?") from None
        # Write, then rename, because another terminal may be reading the file.
        jar.save(draft := f"{jar.filename}.{os.getpid()}", ignore_discard=True)
        os.replace(draft, str(jar.filename))
        self._http.headers["X-CSRFToken"] = self._http.cookies.get("csrftoken") or ""
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of the successful response. Raises `ClientError`."""
        # All tries have the same key, so a POST whose response was lost is accepted only once.
        key = {"Idempotency-Key": str(uuid4())}
        while True:
            with suppress(httpx.TransportError):
                answer = self._http.request(method, path, json=body, headers=key)
                _check(answer, *AWAY)
                self._set_lost(False)
                return answer.json()
            self._set_lost(True)
            time.sleep(random.uniform(0.5, 3.0))

    def events(self, conversation: str, cursor: int | str | None) -> Events:
        """Yield each event after the cursor once. The iterator never ends by itself.

        Without a cursor, a snapshot comes first. Raises `ClientError`.
        """
        path = f"api/conversations/{conversation}/events/"
        while True:
            last = {} if cursor is None else {"Last-Event-ID": str(cursor)}
            with (
                suppress(httpx.TransportError),
                connect_sse(self._http, "GET", path, headers=last) as stream,
            ):
                _check(stream.response, 429, *AWAY)  # 429, because a cut stream may still count
                for sse in stream.iter_sse():
                    event = json.loads(sse.data or "{}")
                    if event.get("head", 0) is not None:  # null in heartbeats while Redis is away
                        self._set_lost(False)
                    if sse.event == "stream-error":
                        raise ClientError(event["text"])
                    if sse.event == "stream-reset":
                        cursor = None  # the next connection must begin with a snapshot
                        self._note("the event log was lost: this is the text as it is now")
                    elif sse.data and sse.event != "heartbeat":
                        cursor = sse.id
                        yield sse.event, event
            self._set_lost(True)
            time.sleep(random.uniform(0.5, 3.0))

    def _set_lost(self, lost: bool) -> None:
        if lost != self._lost:
            self._note("reconnecting…" if lost else "back, nothing lost")
        self._lost = lost


def _check(answer: httpx.Response, *temporary: int) -> None:
    """Raise `ClientError` for a refusal, and `TransportError` for a `temporary` status."""
    if answer.status_code in temporary:
        raise httpx.TransportError("the service is away")
    kind = answer.headers.get("Content-Type", "")
    if not answer.is_success or not kind.startswith(("application/json", "text/event-stream")):
        answer.read()
        with suppress(ValueError, KeyError, TypeError):
            raise ClientError(answer.json()["detail"])
        raise ClientError(f"This is not the service: {answer.url} has status {answer.status_code}.")
