"""API tokens: shown once, stored as a digest, valid until revoked or expired."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import CharField, QuerySet
from django.db.models.functions import Now

from streams.compiled_query import CompiledQuery, Parameter
from streams.service_models import ApiToken


def valid_tokens() -> QuerySet[ApiToken]:
    """The tokens of active users that are neither revoked nor expired."""
    unrevoked = ApiToken.objects.filter(revoked_at=None, user__is_active=True)
    return unrevoked.exclude(expires_at__lte=Now())


BY_DIGEST = CompiledQuery(
    lambda: (
        valid_tokens()
        .filter(digest=Parameter("digest", CharField()))
        .values_list("pk", "user_id", "scopes")
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidToken:
    """A token that is valid now: its id, the id of its user, and its scopes."""

    id: int
    user: int
    scopes: tuple[str, ...]


def find_token(token: str) -> ValidToken | None:
    """The token if it is valid now, otherwise None."""
    row = BY_DIGEST.row(digest=digest_of(token))
    if row is None:
        return None
    id, user, scopes = row
    return ValidToken(id=id, user=user, scopes=tuple(scopes.split()))


SCOPES = ("read", "write")


def create_token(
    user: AbstractBaseUser, name: str, *, scopes: str, expires_at: datetime | None = None
) -> str:
    """Create a token for the user and return it.

    The database stores only its digest, so no later call can return the token again.
    """
    token = f"unspool_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(
        user_id=user.pk, name=name, digest=digest_of(token), scopes=scopes, expires_at=expires_at
    )
    return token


def digest_of(token: str) -> str:
    """The digest under which the database stores the token: SHA-256, in hexadecimal.

    One round of hashing is enough, because tokens are long and random.
    """
    return sha256(token.encode(errors="surrogateescape")).hexdigest()
