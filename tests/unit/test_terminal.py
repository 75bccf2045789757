"""The terminal client, where a network would be: what it does when it is told to wait."""

import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from streams.cli.client import Client
from streams.cli.listening import Listening


def test_a_stream_that_is_one_too_many_for_now_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, said = iter([httpx.Response(429), httpx.Response(204)]), list[str]()
    monkeypatch.setattr(time, "sleep", lambda _: None)
    client = Client("http://127.0.0.1:1/", token="t", cookies=tmp_path / "none", tell=said.append)
    client._http = httpx.Client(
        base_url=client.url, transport=httpx.MockTransport(lambda _: next(answers))
    )
    listening = Listening(client=client, conversation=uuid4(), cursor=7, until_idle=True)
    assert list(listening.events()) == []
    assert said == ["reconnecting…", "back, nothing lost"]


def test_a_cookie_file_that_holds_nothing_is_a_new_visitors(tmp_path: Path) -> None:
    cookies = tmp_path / "cookies"
    cookies.touch()
    assert Client("http://127.0.0.1:1/", token=None, cookies=cookies, tell=print)
