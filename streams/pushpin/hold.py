"""A hold: the data shared by connections that Pushpin holds for the same reader and options.

Pushpin knows only names of channels. So the web process writes the whole hold into the name of
one channel. Pushpin returns that name in `Grip-Last` when it requests the next link, and the bridge
reads it in Pushpin's subscription. The name contains a session's key, and Pushpin logs names, so
the hold is encrypted.
"""

import binascii
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from streams.access.authorization import Caller
from streams.log.channels import channel_of

STATE = "hold-"  # nothing is published on this channel; it exists only for its name
ASIDE = "aside-"  # carries what these readers receive besides the conversation's events
# The most characters of a name. One request or response has three names in its headers, for which
# Pushpin has a buffer of 8 KB (`client_buffer_size`). Pushpin itself does not limit a name.
MAX_NAME = 512
PURPOSE = b"unspool.pushpin.hold"  # HKDF's `info`: keys for other purposes differ
TAG_SIZE = 16  # bytes that AES-SIV adds
# The lengths of names to which libzmq 4.3.4 cannot subscribe. It writes the frame's length into one
# byte, and the peer then ends the connection. Debian's Pushpin is built with that version.
UNSUBSCRIBABLE = range(246, 256)
KEY_SIZE = 64  # bytes: two keys of AES-256, as SIV takes them


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The data of connections that receive the same events and end together.

    `ends_at` is in minutes since 1970. `begun` is false if Redis was away when the hold was opened.
    Then its readers still wait for the events after `cursor`, or for a snapshot.
    """

    conversation: UUID
    caller: Caller
    until_idle: bool
    ends_at: int
    begun: bool
    cursor: int | None = None

    @property
    def channel(self) -> str:
        """The channel of the conversation's events."""
        return channel_of(self.conversation)

    @property
    def state(self) -> str:
        """The channel whose name is this hold. Equal holds have equal names."""
        caller = self.caller
        fields = [
            self.conversation.bytes.hex(),
            *(caller.owner, caller.session, caller.token),
            *(self.until_idle, self.ends_at, self.begun, self.cursor),
        ]
        plaintext = orjson.dumps(fields)
        while not _name_lengths(plaintext).isdisjoint(UNSUBSCRIBABLE):
            plaintext += b" "  # JSON allows white space after the value
        return STATE + _seal(plaintext)

    @property
    def aside(self) -> str:
        """The channel for this hold's readers only: heartbeats, closing frames and hints."""
        return ASIDE + self.state.removeprefix(STATE)


def parse_hold(name: str) -> Hold | None:
    """The hold that this channel name encodes; None for any other name."""
    if not name.startswith(STATE) or len(name) > MAX_NAME:
        return None
    fields = _unseal(name.removeprefix(STATE))
    if fields is None:
        return None
    conversation, owner, session, token, until_idle, ends_at, begun, cursor = fields
    return Hold(
        conversation=UUID(conversation),
        caller=Caller(owner=owner, session=session, token=token),
        until_idle=until_idle,
        ends_at=ends_at,
        begun=begun,
        cursor=cursor,
    )


def _name_lengths(plaintext: bytes) -> set[int]:
    """The lengths of both names that carry this plaintext once it is sealed."""
    sealed = -(-4 * (TAG_SIZE + len(plaintext)) // 3)  # Base64 without padding
    return {len(STATE) + sealed, len(ASIDE) + sealed}


def _seal(plaintext: bytes) -> str:
    # AES-SIV (RFC 5297) is deterministic, so equal holds get the same name, and their readers share
    # a channel. It also authenticates, so no other program can make a name.
    sealed = _cipher(settings.SECRET_KEY).encrypt(plaintext, None)
    return urlsafe_b64encode(sealed).decode().rstrip("=")


def _unseal(text: str) -> list[Any] | None:
    try:
        sealed = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        plaintext = _cipher(settings.SECRET_KEY).decrypt(sealed, None)
    except (binascii.Error, InvalidTag, ValueError):
        return None  # sealed with another SECRET_KEY, or not by this service
    if _seal(plaintext) != text:
        return None  # base64 spells some bytes in several ways, but a hold has one name
    fields: list[Any] = orjson.loads(plaintext)
    return fields


@lru_cache(maxsize=1)
def _cipher(secret_key: str) -> AESSIV:
    derivation = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=PURPOSE)
    return AESSIV(derivation.derive(secret_key.encode()))
