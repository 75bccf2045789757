"""The channel names that encode a hold: each can be subscribed to and decoded."""

from uuid import UUID

import pytest

from streams.access.authorization import Caller
from streams.pushpin.hold import Hold, parse_hold

CONVERSATION = UUID("c0ffee00-0000-4000-8000-000000000001")
BROKEN = range(246, 256)  # bytes of a subscription that libzmq 4.3.4 writes wrongly


def hold(owner: str, session: str | None, *, cursor: int | None = None) -> Hold:
    return Hold(
        conversation=CONVERSATION,
        caller=Caller(owner=owner, session=session),
        until_idle=True,
        ends_at=29_933_226,
        begun=cursor is None,
        cursor=cursor,
    )


@pytest.mark.parametrize("cursor", [None, 0, 1_795_993_524_882_984, 2**53 - 1])
def test_no_hold_name_has_a_length_that_libzmq_cannot_subscribe_to(cursor: int | None) -> None:
    lengths = set()
    for length in range(65):  # an owner has at most 64 characters
        one = hold("o" * length, "s" * 40, cursor=cursor)
        assert parse_hold(one.state) == one
        assert one.state == hold("o" * length, "s" * 40, cursor=cursor).state  # readers share it
        lengths |= {len(one.state), len(one.aside)}
    assert lengths.isdisjoint(BROKEN)
    assert min(lengths) < BROKEN.start
    assert max(lengths) > BROKEN.stop
