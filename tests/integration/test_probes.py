"""What the platform asks is answered at any `Host`; what has a wrong one costs the log a line."""

import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client

# The probe's threads see the database as another process would.
pytestmark = [pytest.mark.django_db(transaction=True)]
HOSTS = ["10.2.3.4:8000", "evil.example", "a b", "x" * 5000, "[::1", ""]


@pytest.fixture
def production(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["chat.example.org"]
    settings.SECURE_SSL_REDIRECT = True


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What the service's own handler writes."""
    (handler,) = (h for h in logging.getLogger().handlers if h.name == "stderr")
    assert isinstance(handler, logging.StreamHandler)
    written = StringIO()
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


@pytest.mark.usefixtures("valkey", "production")
@pytest.mark.parametrize("host", HOSTS)
def test_probes_are_answered_for_every_host(host: str) -> None:
    client = Client(headers={"Host": host})
    for path in ("/health/live", "/health/ready", "/metrics"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer["Cache-Control"] == "no-store"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert client.head(path).status_code == 200
        assert client.post(path).status_code == 405


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("path", ["/", "/api/models/", "/health/live/", "/admin/login/"])
def test_every_other_path_keeps_refusing_a_wrong_host(path: str) -> None:
    answer = Client(headers={"Host": "evil.example"}).get(path, secure=True)
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["evil.example", "x" * 9000, "a\x85b\nc", "é" * 300])
@pytest.mark.parametrize("path", ["/", "/api/models/", f"/{'p' * 5000}"])
def test_a_wrong_host_is_one_bounded_log_line(host: str, path: str, lines: StringIO) -> None:
    assert Client(headers={"Host": host}).get(path).status_code == 400
    (line,) = lines.getvalue().splitlines()
    assert "WARNING django.security.DisallowedHost" in line
    assert "Invalid HTTP_HOST header" in line
    assert len(line) < 500


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("path", ["/", "/admin/"])
def test_a_page_without_the_database_has_retry_after(
    path: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr("streams.access.sessions.SessionStore.load", away)
    client = Client(raise_request_exception=False)
    client.cookies["sessionid"] = "x" * 32
    answer = client.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def test_an_internal_error_keeps_its_traceback(
    lines: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.web.page.render", lambda *_: 1 / 0)
    assert Client(raise_request_exception=False).get("/").status_code == 500
    assert "ZeroDivisionError" in lines.getvalue()
