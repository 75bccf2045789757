"""A signed token permits what it names, for minutes, and nothing else."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from streams.access.api_tokens import create_token
from streams.access.signed_tokens import LEEWAY, MAX_AGE, MAX_LENGTH, verify
from streams.models import Conversation
from tests.integration.support.api_client import (
    begin_conversation,
    client_with_token,
    conversation,
    problem,
)
from tests.integration.support.signed_tokens import claims_for, sign, sign_bytes, with_claims

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
KEY = "k" * 32
SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"


@pytest.fixture(autouse=True)
def signing(settings: Any) -> None:
    settings.ALLOW_ANONYMOUS = False
    settings.STREAM_SIGNING_KEY = KEY


def documented() -> Callable[..., str]:
    """The function that the document gives to other applications."""
    code = re.search("```python\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    made: Callable[..., str] = names["sign_token"]
    return made


def begun(owner: str) -> str:
    made = begin_conversation(client_with_token(documented()(owner, KEY, "read write")))
    assert made.status_code == 202
    return str(made.json()["conversation"])


def follow(id: str, token: str) -> int:
    """The status with which the stream opens; none of it is read."""
    return int(Client().head(f"{conversation(id)}events/", {"token": token}).status_code)


async def test_the_signing_example_of_the_documents_opens_a_stream() -> None:
    id = await sync_to_async(begun)("external:ada@example.org")
    token = documented()("external:ada@example.org", KEY)
    answer = await AsyncClient().get(f"{conversation(id)}events/?token={token}")
    assert answer.status_code == 200
    frames = aiter(answer.streaming_content)
    await anext(frames)
    assert id.encode() in await anext(frames)
    await answer.streaming_content.aclose()


def test_a_conversation_belongs_to_the_owner_in_the_token() -> None:
    id = begun("external:1")
    assert Conversation.objects.get().owner == "external:1"
    assert follow(id, sign("external:1")) == 200
    for stranger in ("external:2", "external:11"):
        assert follow(id, sign(stranger)) == 404


def test_a_token_names_a_user_in_one_spelling_only() -> None:
    """Another spelling would act as the user, and own what the user never sees."""
    ada = User.objects.create_user("ada")
    for name in (f"user:0{ada.pk}", f"user:{ada.pk} ", f"user:+{ada.pk}", f"User:{ada.pk}"):
        answer = begin_conversation(client_with_token(sign(name, scope="read write")))
        assert problem(answer) == (401, "unauthorized"), name
    assert not Conversation.objects.exists()


def test_a_token_for_a_user_is_refused_once_the_user_is_deactivated() -> None:
    ada = User.objects.create_user("ada")
    id = begin_conversation(
        client_with_token(create_token(ada, "job", scopes="read write"))
    ).json()["conversation"]
    token = sign(f"user:{ada.pk}")
    assert follow(id, token) == 200
    User.objects.update(is_active=False)
    assert follow(id, token) == 401
    assert follow(id, sign("user:999999")) == 401


def test_a_token_permits_only_what_its_scope_names() -> None:
    assert problem(begin_conversation(client_with_token(sign("external:1")))) == (
        403,
        "scope_missing",
    )
    id = begun("external:1")
    for scope in ("write", "", "reads", "READ"):
        assert follow(id, sign("external:1", scope=scope)) == 403, scope


def test_only_a_stream_takes_a_token_in_the_url() -> None:
    token = sign("external:1", scope="read write")
    assert problem(Client().get("/api/conversations/", {"token": token})) == (401, "unauthorized")


def test_an_api_token_is_refused_in_the_url() -> None:
    ada = User.objects.create_user("ada")
    token = create_token(ada, "job", scopes="read write")
    id = begin_conversation(client_with_token(token)).json()["conversation"]
    assert follow(id, token) == 401


def test_a_dot_distinguishes_signed_tokens_from_api_tokens() -> None:
    ada = User.objects.create_user("ada")
    assert "." not in create_token(ada, "job", scopes="read")
    assert sign("external:1").count(".") == 2


def test_without_a_key_every_signed_token_is_refused(settings: Any) -> None:
    id, token = begun("external:1"), sign("external:1")
    settings.STREAM_SIGNING_KEY = ""
    assert follow(id, token) == 401
    assert follow(id, sign_bytes(json.dumps(claims_for("external:1")).encode(), key="")) == 401


def test_a_token_expires_at_most_five_minutes_and_the_leeway_ahead() -> None:
    """Clocks of two machines differ: `iat` and `nbf` may lie a little ahead, and so may `exp`."""
    now = int(time.time())
    for claims in (
        {"exp": now + MAX_AGE + LEEWAY - 10},
        {"exp": now + 60.5, "iat": now + LEEWAY - 10, "nbf": now + LEEWAY - 10},
        {"aud": ["unspool", "other"], "iss": "app.example.org", "jti": "1"},
        {"iat": now - 3600},
    ):
        token = verify(with_claims(**claims))
        assert token, claims
        assert (str(token.owner), token.scopes) == ("external:1", ("read",))


def test_the_longest_owner_fits() -> None:
    token = sign("external:" + "x" * 50, scope="read write")
    assert verify(token)
    assert len(token) * 5 < MAX_LENGTH
