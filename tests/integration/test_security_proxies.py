"""What a proxy says of its clients is believed where TRUSTED_PROXIES names the proxy."""

import asyncio
from typing import Any

import pytest

from config import server

SAID = [(b"x-forwarded-for", b"198.51.100.7, 203.0.113.9"), (b"x-forwarded-proto", b"https")]
BELIEVED = ("203.0.113.9", "https")


def seen(monkeypatch: pytest.MonkeyPatch, peer: str) -> tuple[str, str]:
    """The client's address and scheme as the application gets them."""
    scopes: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], *_: Any) -> None:
        scopes.append(scope)

    monkeypatch.setattr(server, "application", application)
    config = server.server_config()
    config.load()
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": SAID}
    asyncio.run(config.loaded_app(scope, None, None))
    return scopes[0]["client"][0], scopes[0]["scheme"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.1.2.3", "203.0.113.50"])
def test_no_forwarded_header_is_trusted_by_default(
    monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert seen(monkeypatch, peer) == (peer, "http")


@pytest.mark.parametrize(
    ("peer", "believed"),
    [("127.0.0.1", True), ("10.1.2.3", True), ("::1", False), ("11.1.2.3", False)],
)
def test_only_named_proxies_are_trusted(
    monkeypatch: pytest.MonkeyPatch, settings: Any, peer: str, believed: bool
) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    assert seen(monkeypatch, peer) == (BELIEVED if believed else (peer, "http"))


def test_the_last_unnamed_address_is_the_client(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """What stands before it in the header may be the client's invention."""
    settings.TRUSTED_PROXIES = ["127.0.0.1", "203.0.113.9"]
    assert seen(monkeypatch, "127.0.0.1") == ("198.51.100.7", "https")
