"""Which bodies are parsed at all: how long they may be, and what may stand outside of strings."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.http import request_limits
from streams.http.request_limits import SYNTAX, is_flat, max_bytes

UUID = "6f1c3b3e-0a52-4d8b-9a53-7f5a4e2f9c11"


def test_a_body_can_be_as_long_as_its_route_allows(settings: Any) -> None:
    settings.MAX_MESSAGE_CHARS, settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000, 50_000
    assert max_bytes("/api/conversations/") == 16_384 + 2 * 12_000
    assert max_bytes(f"/api/conversations/{UUID}/messages/") == 16_384 + 12_000
    for path in (f"/api/conversations/{UUID}/", f"/api/runs/{UUID}/retry/", "/accounts/login/"):
        assert max_bytes(path) == 16_384


def test_the_longest_message_and_system_prompt_in_escapes_are_accepted(settings: Any) -> None:
    text = "\U0001f642" * settings.MAX_MESSAGE_CHARS
    body = json.dumps({"message": text, "system": text, "title": "\U0001f642" * 200})
    assert len(body) <= max_bytes("/api/conversations/")
    assert is_flat(body.encode())


@given(st.dictionaries(st.text(), st.text() | st.none(), max_size=20), st.sampled_from([None, 2]))
def test_an_object_of_strings_is_flat(body: dict[str, str | None], indent: int | None) -> None:
    for ascii in (True, False):
        said = json.dumps(body, indent=indent, ensure_ascii=ascii)
        assert is_flat(said.encode("utf-8", "replace"))


@given(
    st.lists(st.sampled_from([b'"', b"\\", b"x", b"\xc3\xa9", b"{", b" "]), max_size=60),
    st.integers(2, 9),
)
def test_bytes_outside_of_strings_are_counted_at_every_split(
    pieces: list[bytes], stride: int
) -> None:
    body = b"".join(pieces)
    outside = len(re.sub(rb'"(?:[^"\\]|\\.)*("|\\?$)', b"", body, flags=re.DOTALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_limits, "STRIDE", stride)
        assert is_flat(body, outside)
        assert not is_flat(body, outside - 1)


@pytest.mark.parametrize("piece", [b"{},", b"[", b'"",', b'{"a":', b"1,", b" "])
def test_many_bytes_outside_of_strings_are_not_flat(piece: bytes) -> None:
    assert not is_flat(b'{"message": [' + piece * SYNTAX)
