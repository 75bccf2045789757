"""A pass of another application opens what it names, for minutes, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.signing import Signer, b64_encode
from django.test import AsyncClient, Client

from streams.access import signed_tokens
from streams.access.api_tokens import create_token
from streams.models import Conversation
from tests.integration.support.api_client import conversation
from tests.integration.test_api_authentication import bearing, begin, refused

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
    made: Callable[..., str] = names["pass_for"]
    return made


def begun(owner: str) -> str:
    made = begin(bearing(documented()(owner, KEY, "read write")))
    assert made.status_code == 202
    return str(made.json()["conversation"])


def follow(id: str, shown: str) -> int:
    """Whether the stream opens: the status; nothing of it is read."""
    return int(Client().head(f"{conversation(id)}events/", {"token": shown}).status_code)


async def test_a_page_follows_with_what_the_document_makes() -> None:
    id = await sync_to_async(begun)("external:ada@example.org")
    shown = documented()("external:ada@example.org", KEY)
    answer = await AsyncClient().get(f"{conversation(id)}events/?token={shown}")
    assert answer.status_code == 200
    pieces = aiter(answer.streaming_content)
    await anext(pieces)
    assert id.encode() in await anext(pieces)
    await answer.streaming_content.aclose()


def test_what_it_began_is_the_other_applications_users_and_nobody_elses() -> None:
    id = begun("external:1")
    assert Conversation.objects.get().owner == "external:1"
    assert follow(id, signed_tokens.sign("external:1")) == 200
    for stranger in ("external:2", "external:11"):
        assert follow(id, signed_tokens.sign(stranger)) == 404


def test_a_pass_names_a_user_in_one_spelling_only() -> None:
    """Another one would be let in as the user, and own what the user never sees."""
    ada = User.objects.create_user("ada")
    for name in (f"user:0{ada.pk}", f"user:{ada.pk} ", f"user:+{ada.pk}", f"User:{ada.pk}"):
        answer = begin(bearing(signed_tokens.sign(name, scopes="read write")))
        assert refused(answer) == (401, "unauthorized"), name
    assert not Conversation.objects.exists()


def test_a_pass_names_a_user_here_until_he_is_shut_out() -> None:
    ada = User.objects.create_user("ada")
    id = begin(bearing(create_token(ada, "job", scopes="read write"))).json()["conversation"]
    shown = signed_tokens.sign(f"user:{ada.pk}")
    assert follow(id, shown) == 200
    User.objects.update(is_active=False)
    assert follow(id, shown) == 401
    assert follow(id, signed_tokens.sign("user:999999")) == 401


def test_a_pass_to_read_does_not_write() -> None:
    assert refused(begin(bearing(signed_tokens.sign("external:1")))) == (403, "scope_missing")
    id = begun("external:1")
    blind = signed_tokens.sign("external:1", scopes="write")
    assert follow(id, blind) == 403


def test_only_a_stream_takes_it_in_the_url() -> None:
    shown = signed_tokens.sign("external:1", scopes="read write")
    assert refused(Client().get("/api/conversations/", {"token": shown})) == (401, "unauthorized")


def wrong() -> list[str]:
    good = {"owner": "external:1", "scopes": "read", "until": 2**33}
    ours = Signer(key=KEY, sep=".", salt="unspool.pass")
    body, _, signature = signed_tokens.sign("external:1").partition(".")
    return [
        ours.sign_object(good),  # for longer than any pass
        signed_tokens.sign("external:1", seconds=-1),
        signed_tokens.sign("external:1", seconds=0),
        Signer(key="x" * 32, sep=".", salt="unspool.pass").sign_object(good),
        Signer(key=KEY, sep=".", salt="unspool").sign_object(good),
        *(
            signed_tokens.sign(owner)
            for owner in ("visitor:1", "visitor:", "user:x", "user:", "ada", "")
        ),
        *(signed_tokens.sign(owner) for owner in ("user:01", "user:0", "user:1 ", "external:1\n")),
        ours.sign_object({**good, "until": 10**400}),
        ours.sign(b64_encode(b"[" * 200_000).decode()),
        ours.sign(".bm90IGNvbXByZXNzZWQ"),
        signed_tokens.sign("external:" + "x" * 51),
        signed_tokens.sign("external:a b"),
        ours.sign_object(["external:1"]),
        ours.sign_object({**good, "until": "tomorrow"}),
        ours.sign("e30"),
        ours.sign("no JSON"),
        f"{body}.",
        f".{signature}",
        f"{body}.{signature}.{signature}",
        f"{body[:-1]}.{signature}",
        "é.\udcff",
        "..",
    ]


def test_whatever_is_no_pass_of_ours_opens_nothing() -> None:
    id = begun("external:1")
    for shown in wrong():
        asked = Client().get("/api/models/", headers={"Authorization": f"Bearer {shown}"})
        assert refused(asked) == (401, "unauthorized"), shown
        if shown.isascii():
            assert follow(id, shown) == 401, shown


def test_a_token_is_no_pass_and_does_not_belong_into_a_url() -> None:
    ada = User.objects.create_user("ada")
    token = create_token(ada, "job", scopes="read write")
    id = begin(bearing(token)).json()["conversation"]
    assert follow(id, token) == 401


def test_without_a_key_there_are_no_passes(settings: Any) -> None:
    id, shown = begun("external:1"), signed_tokens.sign("external:1")
    settings.STREAM_SIGNING_KEY = ""
    assert follow(id, shown) == 401
    empty = Signer(key="", sep=".", salt="unspool.pass").sign_object({"owner": "external:1"})
    assert follow(id, empty) == 401
