"""Passes: another application's word for its user, signed with a key that both know.

    <JSON in base64url>.<HMAC-SHA256 of that in base64url>

The JSON names an owner, scopes, and until when the pass opens a door: five minutes at the most,
for it may stand in a stream's URL, and URLs are written down. docs/security.md says how to make
one elsewhere.
"""

import re
import time
from dataclasses import dataclass

from django.conf import settings
from django.core.signing import BadSignature, Signer

LIFE = 300  # seconds, from when it is made
SKEW = 30  # seconds that the other application's clock may be ahead
OWNER = re.compile(r"user:[0-9]{1,18}|external:[A-Za-z0-9._@-]{1,50}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """Whom a pass lets in, and what for."""

    owner: str
    scopes: tuple[str, ...]


def write(owner: str, *, scopes: str = "read", seconds: int = LIFE) -> str:
    """A pass for the owner, `user:<id>` or `external:<id>`."""
    return _signer().sign_object(
        {"owner": owner, "scopes": scopes, "until": int(time.time()) + seconds}
    )


def read(shown: str) -> Pass | None:
    """What the pass says; None where it is not ours, or its time is over."""
    if not settings.STREAM_SIGNING_KEY:
        return None
    try:
        match _signer().unsign_object(shown):
            case {"owner": str(owner), "scopes": str(scopes), "until": int(until)} if (
                OWNER.fullmatch(owner) and 0 < until - time.time() <= LIFE + SKEW
            ):
                return Pass(owner=owner, scopes=tuple(scopes.split()))
            case _:
                return None
    except (BadSignature, ValueError):
        return None  # forged, or signed by a friend who cannot write JSON


def _signer() -> Signer:
    return Signer(key=settings.STREAM_SIGNING_KEY, sep=".", salt="unspool.pass")
