"""The terminal client's HTTP: each call and each stream is repeated until the service responds."""

import fcntl
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from httpx_sse import connect_sse

TIMEOUT = httpx.Timeout(37.5, connect=5.0)  # seconds: two and a half heartbeat intervals
Events = Iterator[tuple[str, Any]]  # the type of each event, and its data


class ClientError(Exception):
    """The service refuses the call, or does not respond. The text is for the user."""


class Client:
    """Calls the service at `url`, with an API token or as the visitor stored in `folder`."""

    def __init__(
        self, url: str, token: str | None, folder: Path, note: Callable[[str], None]
    ) -> None:
        """Raises `ClientError` at once if the service does not respond: the URL may be wrong."""
        self._note, self._lost = note, False
        if token and not re.fullmatch("[!-~]+", token):
            raise ClientError("The token has a space, a line feed or a character outside ASCII.")
        try:
            name = httpx.URL(url).netloc.decode().replace(":", "-")
            jar = MozillaCookieJar(folder / f"chat-{name}.cookies")
            self._http = httpx.Client(base_url=url, cookies=jar, timeout=TIMEOUT)
            with Path(f"{jar.filename}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # terminals that start at once share one session
                with suppress(OSError):  # without a valid file: a new session
                    jar.load(ignore_discard=True)
                self._http.get("/")  # the response sets the visitor's cookies
                # Write, then rename, because this process may be killed.
                jar.save(draft := f"{jar.filename}.new", ignore_discard=True)
                os.replace(draft, str(jar.filename))
        except (httpx.InvalidURL, httpx.TransportError):
            raise ClientError(f"No answer from {url}. Is the service running?") from None
        self._http.headers["X-CSRFToken"] = self._http.cookies.get("csrftoken") or ""
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, *fields: str, body: object = None) -> dict[str, Any]:
        """The JSON of the successful response, which has these fields. Raises `ClientError`."""
        # All tries have the same key, so a POST whose response was lost is accepted only once.
        key = {"Idempotency-Key": str(uuid4())}
        while True:
            with suppress(httpx.TransportError):
                response = self._http.request(method, path, json=body, headers=key)
                _check(response)
                self._note_back()
                with suppress(ValueError, AttributeError):  # another server's JSON, or none
                    if (found := response.json()).keys() >= set(fields):
                        return dict(found)
                raise _unknown(response)
            self._wait_to_retry()

    def events(self, conversation: str, cursor: int | str | None = None) -> Events:
        """Each event after the cursor once, without end. Raises `ClientError`.

        Without a cursor, and after the log has lost events, a snapshot comes first.
        """
        path = f"api/conversations/{conversation}/events/"
        while True:
            last = {"Last-Event-ID": str(cursor)} if cursor else {}
            with (
                suppress(httpx.TransportError),
                connect_sse(self._http, "GET", path, headers=last) as stream,
            ):
                _check(stream.response, 429)  # a stream that was just cut may still count
                for sse in stream.iter_sse():
                    cursor = sse.id or cursor
                    if sse.event != "heartbeat":
                        self._note_back()
                        yield sse.event, sse.json()
            self._wait_to_retry()

    def _note_back(self) -> None:
        if self._lost:
            self._note("back, nothing lost")
        self._lost = False

    def _wait_to_retry(self) -> None:
        if not self._lost:
            self._note("reconnecting…")
        self._lost = True
        time.sleep(random.uniform(0.5, 3.0))


def _check(response: httpx.Response, *temporary: int) -> None:
    """Raise `ClientError` for a refusal, and `TransportError` for a temporary status."""
    if response.status_code in (502, 503, 504, *temporary):
        raise httpx.TransportError("the service is away")
    kind = response.headers.get("Content-Type", "")
    if not response.is_success or not kind.startswith(("application/json", "text/event-stream")):
        response.read()
        with suppress(ValueError, KeyError, TypeError):
            raise ClientError(response.json()["detail"])
        raise _unknown(response)


def _unknown(response: httpx.Response) -> ClientError:
    found = f"{response.url} responds with status {response.status_code}"
    return ClientError(f"{found}, but not as the service does. Is the URL right?")
