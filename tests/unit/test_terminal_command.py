"""The terminal client's command: its arguments, and the session that it keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookiejar import MozillaCookieJar
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest
from django.core.management import CommandError, call_command

from streams.cli.client import Client, ClientError
from tests.unit.support.scripted_service import RUN, Open, Service, completed


@pytest.mark.parametrize("both", [("hi", "--follow"), (f"--conversation={RUN}", "--model=m")])
def test_arguments_that_exclude_each_other_are_refused(both: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("chat", *both)


def test_an_empty_cookie_file_starts_a_new_session(terminal: Open, tmp_path: Path) -> None:
    (cookies := tmp_path / "chat-127.0.0.1-1.cookies").touch()
    assert terminal(Service([completed()])).chat.ask("hi") == "completed"
    assert "csrftoken" in cookies.read_text()


def test_terminals_that_start_at_once_are_one_visitor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    visitors = count(1)

    def answer(request: httpx.Request) -> httpx.Response:
        Event().wait(0.1)  # the other terminals start meanwhile
        if "visitor=" in request.headers.get("Cookie", ""):
            return httpx.Response(200)
        return httpx.Response(200, headers={"Set-Cookie": f"visitor={next(visitors)}; Path=/"})

    scripted = partial(httpx.Client, transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "Client", scripted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Client("http://127.0.0.1:1/", None, tmp_path, print), range(4)))
    assert next(visitors) == 2
    (jar := MozillaCookieJar(tmp_path / "chat-127.0.0.1-1.cookies")).load(ignore_discard=True)
    assert [cookie.value for cookie in jar] == ["1"]


@pytest.mark.parametrize("token", ["abc\n", "a b", "abc\0", "ä"])
def test_a_token_that_no_request_can_carry_is_refused(terminal: Open, token: str) -> None:
    with pytest.raises(ClientError, match="The token has"):
        terminal(Service(), token=token)


@pytest.mark.parametrize("body", ["[]", "{", '"run"', "null", "{}", '{"run": "1"}'])
def test_json_of_another_server_ends_the_chat(terminal: Open, body: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "application/json"}, content=body)

    chat = terminal(answer).chat
    for act in (lambda: chat.ask("hi"), chat.follow):
        with pytest.raises(ClientError, match="Is the URL right"):
            act()
