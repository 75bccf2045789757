"""Every token but a good one is refused with 401, on the API and on a stream."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from streams.access.signed_tokens import LEEWAY, MAX_AGE, verify
from tests.integration.support.signed_tokens import (
    base64url,
    claims_for,
    sign,
    sign_bytes,
    with_claims,
)

pytestmark = pytest.mark.django_db
KEY = "k" * 32


@pytest.fixture(autouse=True)
def signing(settings: Any) -> None:
    settings.ALLOW_ANONYMOUS = False
    settings.STREAM_SIGNING_KEY = KEY


def without(claim: str) -> str:
    claims = {name: value for name, value in claims_for("external:1").items() if name != claim}
    return sign_bytes(json.dumps(claims).encode())


def bad_claims() -> Iterator[tuple[str, str]]:
    now = int(time.time())
    for claim in ("aud", "sub", "exp", "scope"):
        yield f"no {claim}", without(claim)
        for value in (None, [], {}, 7, True, ["external:1"]):
            yield f"{claim} {value!r}", with_claims(**{claim: value})
    for claim in ("aud", "sub", "exp"):
        yield f"{claim} empty", with_claims(**{claim: ""})
    yield "another audience", with_claims(aud="other")
    yield "other audiences", with_claims(aud=["other", "unspool "])
    yield "expired", with_claims(exp=now)
    yield "expired a second ago", with_claims(exp=now - 1)
    # Not from `now`, because on a busy machine this is seconds later.
    yield "good for too long", with_claims(exp=int(time.time()) + MAX_AGE + LEEWAY + 20)
    yield "good for centuries", with_claims(exp=2**33)
    yield "exp above every float", with_claims(exp=10**400)
    yield "exp infinite", with_claims(exp=float("inf"))
    yield "exp no number", with_claims(exp=float("nan"))
    yield "exp a text", with_claims(exp=str(now + 60))
    for claim in ("nbf", "iat"):
        now = int(time.time())
        yield f"{claim} in the future", with_claims(**{claim: now + LEEWAY + 60})
        yield f"{claim} infinite", with_claims(**{claim: float("inf")})
        yield f"{claim} a text", with_claims(**{claim: "tomorrow"})


def bad_owners() -> Iterator[tuple[str, str]]:
    for owner in (
        *("visitor:1", "visitor:", "visitor:6f1c2f5e-7d0c-4d1b-8a53-0d8d8f6c2a11"),
        *("user:x", "user:", "user:01", "user:0", "user:1 ", "ada", "", ":"),
        *("external:", "external:1\n", "external:a b", "external:\ud800", "external:" + "x" * 51),
    ):
        yield f"sub {owner!r}", with_claims(sub=owner)


def bad_signatures() -> Iterator[tuple[str, str]]:
    good = claims_for("external:1")
    payload = json.dumps(good).encode()
    yield "no algorithm", jwt.encode(good, None, "none")
    for name in (
        "none",
        "None",
        "NONE",
        "HS384",
        "HS512",
        "RS256",
        "hs256",
        "",
        None,
        7,
        ["HS256"],
    ):
        yield f"alg {name!r}", sign_bytes(payload, json.dumps({"alg": name}).encode())
    yield "alg missing", sign_bytes(payload, b"{}")
    yield "HS384", jwt.encode(good, KEY + "k" * 32, "HS384")
    yield "RS256", jwt.encode(good, generate_private_key(65537, 2048), "RS256")
    yield "another key", jwt.encode(good, "x" * 32, "HS256")
    head, body, signature = sign("external:1").split(".")
    yield "no signature", f"{head}.{body}."
    yield "half a signature", f"{head}.{body}.{signature[:20]}"
    yield "a signature too many", f"{head}.{body}.{signature}.{signature}"
    yield "no header", f".{body}.{signature}"
    yield "no payload", f"{head}..{signature}"
    yield "another payload", f"{head}.{base64url(payload[:-1] + b' }')}.{signature}"
    yield "unknown crit", sign_bytes(payload, b'{"alg":"HS256","crit":["x"],"x":1}')
    yield "detached", sign_bytes(payload, b'{"alg":"HS256","crit":["b64"],"b64":false}')
    yield "odd kid", sign_bytes(payload, b'{"alg":"HS256","kid":7}')


def malformed() -> Iterator[tuple[str, str]]:
    for text in (".", "..", "...", "a.b", "a.b.c", "é.\udcff", "e30.e30.e30", "=.=.=", " . . "):
        yield repr(text), text
    for payload in (b"", b"[]", b"7", b"null", b'"text"', b"{", b"\xff", b"{}", b"no JSON"):
        yield f"payload {payload!r}", sign_bytes(payload)
        yield f"header {payload!r}", sign_bytes(b"{}", payload)
    for deep in (1_000, 200_000):
        yield f"payload {deep} deep", sign_bytes(b"[" * deep)
        yield f"header {deep} deep", sign_bytes(b"{}", b"[" * deep)
    yield "huge", with_claims(filler="x" * 1_000_000)
    yield "dots", "." * 100_000


@pytest.mark.parametrize("kind", [bad_claims, bad_owners, bad_signatures, malformed])
def test_every_other_token_is_refused_with_401(kind: Callable[[], Iterator[Any]]) -> None:
    for why, token in kind():
        answer = Client().get("/api/models/", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), why
        if token.isascii():
            stream = f"/api/conversations/{uuid4()}/events/"
            assert Client().get(stream, {"token": token}).status_code == 401, why


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)), st.binary(max_size=100))
def test_no_payload_and_no_header_raises_an_exception(payload: str | bytes, header: bytes) -> None:
    raw = payload.encode(errors="replace") if isinstance(payload, str) else payload
    for token in (
        str(payload),
        sign_bytes(raw),
        sign_bytes(raw, header),
        sign_bytes(raw, b'{"alg":"HS256"}'),
    ):
        assert verify(token) is None
