"""Signed tokens: JSON Web Tokens (RFC 7519) with which another application identifies its users.

The application signs with HS256 and `STREAM_SIGNING_KEY`, which both services share. A token may
be part of a stream's URL, and servers write URLs into logs. Therefore Unspool refuses tokens that
are valid for longer than five minutes. docs/security.md shows how to sign one.
"""

import time
from contextlib import suppress
from dataclasses import dataclass

import jwt
from django.conf import settings

from streams.access.owners import Owner, OwnerKind, parse_owner
from streams.protocol.ids import NotCanonical

ALGORITHM = "HS256"  # the only algorithm accepted, whatever the token's header names
AUDIENCE = "unspool"  # `aud`: tokens that were signed for other services are refused
MAX_AGE = 300  # seconds from now until `exp`
LEEWAY = 30  # seconds by which the application's clock may be ahead
MAX_LENGTH = 2048  # characters; a token with the longest owner has about 300
REQUIRED = ("aud", "sub", "exp", "scope")
SIGNED_OWNERS = (OwnerKind.USER, OwnerKind.EXTERNAL)  # only Unspool knows its visitors


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedToken:
    """A verified token: the owner for which it acts, and its scopes, `read` or `write`."""

    owner: Owner
    scopes: tuple[str, ...]


def verify(token: str) -> SignedToken | None:
    """The verified token; None if it is malformed, wrongly signed or not valid now."""
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
            # The leeway applies to `iat` and `nbf`. It does not extend a token beyond `exp`.
            now = time.time()
            if now < exp <= now + MAX_AGE + LEEWAY:  # `exp - now` would overflow at 10**400
                with suppress(NotCanonical):
                    owner = parse_owner(sub)
                    if owner.kind in SIGNED_OWNERS:
                        return SignedToken(owner=owner, scopes=tuple(scope.split()))
    return None
