"""API tokens: made once, kept as a digest, valid until revoked or expired."""

import secrets
from datetime import datetime
from hashlib import sha256

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet
from django.db.models.functions import Now

from streams.models import ApiToken


def valid_tokens() -> QuerySet[ApiToken]:
    """Tokens that are neither revoked nor expired, of users who may come in."""
    good = ApiToken.objects.filter(revoked_at=None, user__is_active=True)
    return good.exclude(expires_at__lte=Now())


SCOPES = ("read", "write")


def create_token(
    user: AbstractBaseUser, name: str, *, scopes: str, expires_at: datetime | None = None
) -> str:
    """A new token for the user. Only its digest is kept: it can be shown this once."""
    shown = f"unspool_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(
        user_id=user.pk, name=name, digest=digest_of(shown), scopes=scopes, expires_at=expires_at
    )
    return shown


def digest_of(token: str) -> str:
    """As the database knows it. Tokens are random and long, so one round is enough."""
    return sha256(token.encode(errors="surrogateescape")).hexdigest()
