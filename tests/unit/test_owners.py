"""An owner has one spelling, and every other one is refused."""

from uuid import uuid4

import pytest

from streams.access.owners import OwnerKind, parse_owner
from streams.log.channels import channel_of, conversation_of
from streams.protocol.ids import NotCanonical

UUID = "0b2f1d6e-5b0a-4c3e-9f0d-1a2b3c4d5e6f"
GOOD = ["user:1", "user:30", "user:" + "9" * 18, f"visitor:{UUID}", "external:ada@example.org"]
BAD = [
    *("user:03", "user:0", "user:-1", "user:+3", "user: 3", "user:3 ", "user:3\n", "user:1_0"),
    *(
        "user:٣",
        "user:²",
        "user:",
        "user:x",
        "user:" + "9" * 19,
        "User:3",
        "user",
        "3",
        "",
        ":",
        ":3",
    ),
    *("visitor:", "visitor:1", f"visitor:{UUID.upper()}", f"visitor:{UUID.replace('-', '')}"),
    *(f"visitor:{{{UUID}}}", f"visitor:urn:uuid:{UUID}", f"visitor:{UUID} ", f" visitor:{UUID}"),
    *("external:", "external:a b", "external:a:b", "external:é", "external:" + "x" * 51),
    *("external:a\n", "staff:1"),
]


@pytest.mark.parametrize("text", GOOD)
def test_an_owner_is_parsed_and_formatted_alike(text: str) -> None:
    assert str(parse_owner(text)) == text
    assert parse_owner(text).kind in OwnerKind


@pytest.mark.parametrize("text", BAD)
def test_any_other_spelling_is_not_an_owner(text: str) -> None:
    with pytest.raises(NotCanonical):
        parse_owner(text)


def test_a_channel_has_one_name() -> None:
    id = uuid4()
    name = channel_of(id)
    assert conversation_of(name) == id
    for other in (id.hex, str(id).upper(), f"{{{id}}}", f"urn:uuid:{id}"):
        assert conversation_of(f"conversation-{other}") is None
