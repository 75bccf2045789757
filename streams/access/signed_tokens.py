"""Passes: another application's word for its user, signed with a key that both know.

    <JSON in base64url>.<HMAC-SHA256 of that in base64url>

The JSON names an owner, scopes, and until when the pass opens a door: five minutes at the most,
for it may stand in a stream's URL, and URLs are written down. docs/security.md says how to make
one elsewhere.
"""

import time
import zlib
from dataclasses import dataclass

from django.conf import settings
from django.core.signing import BadSignature, Signer

from streams.access.owners import Owner, OwnerKind, parse_owner

MAX_AGE = 300  # seconds, from when it is made
SKEW = 30  # seconds that the other application's clock may be ahead
# What the reader of a signed text raises where its signer cannot write: no JSON, JSON of a million
# brackets, a number that no clock shows, or what only looks compressed.
MALFORMED = (BadSignature, ValueError, OverflowError, RecursionError, zlib.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedToken:
    """Whom a pass lets in, and what for."""

    owner: Owner
    scopes: tuple[str, ...]


def sign(owner: str, *, scopes: str = "read", seconds: int = MAX_AGE) -> str:
    """A pass for the owner, `user:<id>` or `external:<id>`."""
    return _signer().sign_object(
        {"owner": owner, "scopes": scopes, "until": int(time.time()) + seconds}
    )


def verify(shown: str) -> SignedToken | None:
    """What the pass says; None where it is not ours, or its time is over."""
    if not settings.STREAM_SIGNING_KEY:
        return None
    try:
        return _parse(_signer().unsign_object(shown))
    except MALFORMED:
        return None  # forged, or the other application signs what is no pass


def _parse(said: object) -> SignedToken | None:
    match said:
        case {"owner": str(owner), "scopes": str(scopes), "until": int(until)}:
            named = parse_owner(owner)
            in_time = 0 < until - time.time() <= MAX_AGE + SKEW
            if in_time and named.kind in (OwnerKind.USER, OwnerKind.EXTERNAL):
                return SignedToken(owner=named, scopes=tuple(scopes.split()))
    return None


def _signer() -> Signer:
    return Signer(key=settings.STREAM_SIGNING_KEY, sep=".", salt="unspool.pass")
