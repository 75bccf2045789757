"""What web and bridge agree on about a connection that Pushpin holds: who reads what, for how long.

Pushpin knows only names of channels. So all that a hold is stands in the name of one of its
channels: Pushpin gives it back with each request for what comes next (`Grip-Last`), and the
bridge learns it from Pushpin's subscription. The name holds a session's key, and names are
written into logs, so it is sealed.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256, shake_256
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from streams.access.authorization import Caller
from streams.log.channels import channel_of

STATE = "hold-"  # nothing is ever said there: its place in Grip-Last is what it is for
ASIDE = "aside-"  # what these holds are told beside the conversation's events
SEAL = 16  # bytes
# Bytes of a channel's name that libzmq 4.3.4 cannot subscribe to: it writes the frame's length into
# one byte, and the peer ends the connection. Debian's Pushpin is built with that version.
UNSUBSCRIBABLE = range(246, 256)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """What connections have in common that are told the same and end together.

    `ends_at` is in minutes since 1970. Who has not `begun` awaits what comes after its `cursor`, or
    a snapshot: Redis was away when it asked.
    """

    conversation: UUID
    caller: Caller
    until_idle: bool
    ends_at: int
    begun: bool
    cursor: int | None = None

    @property
    def channel(self) -> str:
        """Where the conversation's events are."""
        return channel_of(self.conversation)

    @property
    def state(self) -> str:
        """The name that says what this hold is."""
        caller = self.caller
        said = [
            self.conversation.bytes.hex(),
            *(caller.owner, caller.session, caller.token),
            *(self.until_idle, self.ends_at, self.begun, self.cursor),
        ]
        words = orjson.dumps(said)
        while not {len(STATE) + _sealed(words), len(ASIDE) + _sealed(words)}.isdisjoint(
            UNSUBSCRIBABLE
        ):
            words += b" "  # JSON allows white space after the value
        return STATE + _seal(words)

    @property
    def aside(self) -> str:
        """Where these holds alone are told something: heartbeats, and their end."""
        return ASIDE + self.state.removeprefix(STATE)


def parse_hold(name: str) -> Hold | None:
    """The hold that a channel of this name is the state of; None for any other channel."""
    if not name.startswith(STATE):
        return None
    said = _open(name.removeprefix(STATE))
    if said is None:
        return None
    conversation, owner, session, token, until_idle, ends_at, begun, cursor = said
    return Hold(
        conversation=UUID(conversation),
        caller=Caller(owner=owner, session=session, token=token),
        until_idle=until_idle,
        ends_at=ends_at,
        begun=begun,
        cursor=cursor,
    )


def _sealed(words: bytes) -> int:
    """How long these words are once they are sealed."""
    return -(-4 * (SEAL + len(words)) // 3)  # Base64 without padding


def _seal(said: bytes) -> str:
    # As RFC 5297 does it: the seal is a keyed digest of the words, and the key stream is made from
    # the seal. The same hold has the same name always, which is what lets its readers share.
    seal = hmac.digest(_key("seal"), said, sha256)[:SEAL]
    return urlsafe_b64encode(seal + _hidden(said, seal)).decode().rstrip("=")


def _open(sealed: str) -> list[Any] | None:
    try:
        whole = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    except ValueError:
        return None
    seal, said = whole[:SEAL], _hidden(whole[SEAL:], whole[:SEAL])
    if not hmac.compare_digest(seal, hmac.digest(_key("seal"), said, sha256)[:SEAL]):
        return None  # another SECRET_KEY's, or somebody's invention
    words: list[Any] = orjson.loads(said)
    return words


def _hidden(words: bytes, seal: bytes) -> bytes:
    stream = shake_256(_key("stream") + seal).digest(len(words))
    hidden = int.from_bytes(words) ^ int.from_bytes(stream)
    return hidden.to_bytes(len(words))


def _key(purpose: str) -> bytes:
    return hmac.digest(settings.SECRET_KEY.encode(), f"hold/{purpose}".encode(), sha256)
