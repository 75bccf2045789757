"""Signs tokens as another application does, valid and invalid ones."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
from django.conf import settings

from streams.access.signed_tokens import ALGORITHM, AUDIENCE, MAX_AGE


def claims_for(owner: str, *, scope: str = "read", seconds: int = MAX_AGE) -> dict[str, Any]:
    """The claims of a valid token that expires after this many seconds."""
    return {"aud": AUDIENCE, "sub": owner, "scope": scope, "exp": int(time.time()) + seconds}


def sign(owner: str, *, scope: str = "read", seconds: int = MAX_AGE) -> str:
    """A token for the owner, signed with the service's own key."""
    claims = claims_for(owner, scope=scope, seconds=seconds)
    return jwt.encode(claims, settings.STREAM_SIGNING_KEY, ALGORITHM)


def with_claims(**changed: object) -> str:
    """A valid token, except for these claims."""
    return sign_bytes(json.dumps(claims_for("external:1") | changed).encode())


def sign_bytes(
    payload: bytes, header: bytes = b'{"alg":"HS256","typ":"JWT"}', *, key: str | None = None
) -> str:
    """A token with any header and any payload, and a correct HMAC-SHA256 of both."""
    text = f"{base64url(header)}.{base64url(payload)}"
    secret = settings.STREAM_SIGNING_KEY if key is None else key
    return f"{text}.{base64url(hmac.digest(secret.encode(), text.encode(), 'sha256'))}"


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
