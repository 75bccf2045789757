"""Rows of an owner that contain known words."""

from django.contrib.auth.models import User

from streams.access.api_tokens import create_token
from tests.integration.support.api_client import client_with_token

WORDS = b"the-heron-stands-in-the-reeds"


def write_words(user: User) -> None:
    client = client_with_token(create_token(user, "job", scopes="read write"))
    client.post(
        "/api/conversations/",
        {"message": WORDS.decode(), "system": WORDS.decode() * 100},
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )
