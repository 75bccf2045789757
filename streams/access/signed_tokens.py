"""Signed tokens: JSON Web Tokens (RFC 7519) by which another application vouches for its user.

The application signs with HS256 and `STREAM_SIGNING_KEY`, which both services know. A token may
stand in a stream's URL, and URLs are written into logs. So a token is good for five minutes at
most, and Unspool refuses one that would be good for longer. docs/security.md shows how to sign.
"""

import time
from dataclasses import dataclass

import jwt
from django.conf import settings

from streams.access.owners import Owner, OwnerKind, parse_owner
from streams.protocol.ids import NotCanonical

ALGORITHM = "HS256"  # the only one; the token's own header decides nothing
AUDIENCE = "unspool"  # `aud`: tokens that the application signs for other services are refused
MAX_AGE = 300  # seconds from now until `exp`
LEEWAY = 30  # seconds by which the application's clock may be ahead
MAX_LENGTH = 2048  # characters; one with the longest owner has about 300
REQUIRED = ("aud", "sub", "exp", "scope")
SIGNED_OWNERS = (OwnerKind.USER, OwnerKind.EXTERNAL)  # only Unspool itself knows its visitors


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedToken:
    """The owner for whom a verified token acts, and what it permits: `read`, `write`."""

    owner: Owner
    scopes: tuple[str, ...]


def verify(token: str) -> SignedToken | None:
    """What the token permits; None if it is malformed, not signed with our key, or not good now."""
    if not settings.STREAM_SIGNING_KEY or len(token) > MAX_LENGTH or not token.isascii():
        return None
    try:
        claims = jwt.decode(
            token,
            settings.STREAM_SIGNING_KEY,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=LEEWAY,
            options={"require": list(REQUIRED)},
        )
    except jwt.PyJWTError:
        return None
    match claims:
        case {"sub": str(sub), "scope": str(scope), "exp": int() | float() as exp}:
            # The leeway is for `iat` and `nbf`. It makes no token good after its `exp`.
            now = time.time()
            if now < exp <= now + MAX_AGE + LEEWAY:  # a difference would overflow at 10**400
                return _token(sub, scope)
    return None


def _token(sub: str, scope: str) -> SignedToken | None:
    try:
        owner = parse_owner(sub)
    except NotCanonical:
        return None
    if owner.kind not in SIGNED_OWNERS:
        return None
    return SignedToken(owner=owner, scopes=tuple(scope.split()))
