"""Pushpin's routes: the streams of all wires pass the proxy, which says that they broke."""

from config.pushpin.run import routes
from streams.urls import DIALECTS

PROXY = "127.0.0.1:7"


def target(path: str) -> str:
    """Where Pushpin sends a request for this path: the longest path that matches wins."""
    lines = [line.split() for line in routes(7).splitlines()]
    plain = [(condition.partition("path_beg=")[2], to) for condition, to in lines]
    http = [one for one, (condition, _) in zip(plain, lines, strict=True) if "ws" not in condition]
    return max((one for one in http if path.startswith(one[0])), key=lambda one: len(one[0]))[1]


def test_every_route_of_another_wire_passes_the_proxy() -> None:
    paths = [f"{api.prefix}{address.pattern}" for api, _ in DIALECTS for address in api.addresses()]
    assert len(paths) > 20
    assert {path: target(path) for path in paths} == dict.fromkeys(paths, PROXY)


def test_the_next_page_of_a_held_stream_does_not() -> None:
    assert target("/api/streams/next/") != PROXY
    assert target("/api/conversations/") == PROXY
