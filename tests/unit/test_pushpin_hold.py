"""The name of a hold's channel is the hold, encrypted."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from streams.access.authorization import Caller
from streams.pushpin.hold import ASIDE, MAX_NAME, STATE, Hold, parse_hold

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HOLD = Hold(
    conversation=UUID("6f1c2f5e-7d0c-4d1b-8a53-0d8d8f6c2a11"),
    caller=Caller(owner="user:5", session="s3cret-session-key"),
    until_idle=True,
    ends_at=29_000_000,
    begun=True,
)


@pytest.fixture(autouse=True)
def secret_key(settings: Any) -> None:
    settings.SECRET_KEY = "s" * 50


@pytest.mark.parametrize(
    "hold",
    [
        HOLD,
        replace(HOLD, begun=False, cursor=2**62),
        replace(HOLD, caller=Caller(owner="external:ada@example.org"), until_idle=False),
        replace(HOLD, caller=Caller(owner="user:5", token=7)),
    ],
)
def test_a_hold_name_decodes_to_the_hold(hold: Hold) -> None:
    assert parse_hold(hold.state) == hold
    assert hold.aside == ASIDE + hold.state.removeprefix(STATE)


def test_a_hold_name_hides_its_content() -> None:
    for hidden in ("s3cret", "user", HOLD.conversation.hex[:8]):
        assert hidden not in HOLD.state


def test_equal_holds_have_one_name_and_different_holds_different_names() -> None:
    assert replace(HOLD).state == HOLD.state
    others = [
        replace(HOLD, conversation=UUID(int=1)),
        replace(HOLD, caller=Caller(owner="user:6", session="s3cret-session-key")),
        replace(HOLD, until_idle=False),
        replace(HOLD, ends_at=29_000_001),
        replace(HOLD, begun=False),
        replace(HOLD, cursor=0),
    ]
    assert len({HOLD.state, *(hold.state for hold in others)}) == 1 + len(others)


@pytest.mark.parametrize("user", ["user:5", "user:55", "user:555"])
def test_a_name_changed_anywhere_is_not_a_hold(user: str) -> None:
    """Also where only bits change that base64 ignores in the last character of two lengths."""
    hold = replace(HOLD, caller=Caller(owner=user))
    name = hold.state
    for at in range(len(STATE), len(name)):
        for other in "A_" if at < len(name) - 1 else BASE64URL:
            changed = name[:at] + other + name[at + 1 :]
            assert parse_hold(changed) == (hold if changed == name else None)


@pytest.mark.parametrize(
    "name",
    [
        *(HOLD.state[:-1], HOLD.state + "A", HOLD.state + "!", HOLD.state + "=", HOLD.state + "\n"),
        *(HOLD.aside, HOLD.channel, "", "hold", STATE, STATE + "!", STATE + "é", STATE + "A"),
        *(STATE + "A" * length for length in (4, 21, 22, 23, 24, MAX_NAME)),
        STATE + "A" * 10_000_000,
    ],
    ids=lambda name: name[:40],
)
def test_any_other_name_is_not_a_hold(name: str) -> None:
    assert parse_hold(name) is None


def test_a_name_under_another_secret_key_is_not_a_hold(settings: Any) -> None:
    name = HOLD.state
    settings.SECRET_KEY = "t" * 50
    assert parse_hold(name) is None
    assert HOLD.state != name
    settings.SECRET_KEY = "s" * 50
    assert parse_hold(name) == HOLD


def test_the_longest_hold_fits_into_a_name() -> None:
    longest = Hold(
        conversation=HOLD.conversation,
        caller=Caller(owner="x" * 64, session="s" * 40, token=2**63 - 1),
        until_idle=False,
        ends_at=10**9,
        begun=False,
        cursor=2**63 - 1,
    )
    assert len(longest.state) < MAX_NAME
    assert parse_hold(longest.state) == longest
