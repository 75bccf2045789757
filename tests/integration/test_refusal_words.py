"""The words of refusals: no class and no type of Python is named, whichever body is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pydantic import BaseModel

from streams.access.api_tokens import create_token
from tests.support.hostile_values import variants

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
UUID = "00000000-0000-4000-8000-00000000000a"
PYTHON = r"instance of|dictionary|\b(function-|nullable|NoneType|(list|dict|tuple|set)\[)|\.str\b"
CONTENT = "body.input.messages.0.content"
OTHERS: list[Any] = [None, 1, "x", [], {}, [1], [{}], {"": ""}]
Json = dict[str, Any]


def test_no_refusal_names_a_class(settings: Any) -> None:
    settings.MAX_RUNS_PER_MINUTE = 0  # what is valid is refused, too, and stores nothing
    token = create_token(User.objects.create_user("ada"), "words", scopes="read write")
    client = Client(headers={"Authorization": f"Bearer {token}"})
    document = client.get("/api/openapi.json").json()
    told = re.compile(rf"{PYTHON}|\b({'|'.join(sorted(classes(BaseModel)))})\b")
    bodies = {str(schema): (method, path, schema) for method, path, schema in all_bodies(document)}
    assert len(bodies) >= 10
    refused = set()
    for method, path, schema in bodies.values():
        for choice in range(2):
            for body in variants(sample(document, schema, choice), OTHERS):
                answer: Any = client.generic(
                    method, path, json.dumps(body), content_type="application/json"
                )
                answer.close()
                if answer.status_code < 400:
                    continue
                refused.add(path)
                words = answer.content.decode()
                assert not told.search(words), (path, json.dumps(body)[:300], words[:500])
    assert refused == {path for _, path, _ in bodies.values()}


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (1, ["body.input.messages.0.content"] * 2),
        (
            [{"text": "a"}],
            ["body.input.messages.0.content", "body.input.messages.0.content.0.type"],
        ),
        ([1], ["body.input.messages.0.content", "body.input.messages.0.content.0"]),
    ],
)
def test_the_path_of_a_field_is_that_of_the_body(content: Any, fields: list[str]) -> None:
    message = {"type": "human", "content": content}
    body = {"assistant_id": "agent", "input": {"messages": [message]}}
    answer = Client().post("/runs", body, content_type="application/json")
    assert [error["field"] for error in json.loads(answer.content)["errors"]] == fields


def test_a_field_that_is_not_known_is_named_as_it_was_sent() -> None:
    body = {"message": "?", "list[Text]": 1, "str": 2}
    answer = Client().post("/api/conversations/", body, content_type="application/json")
    fields = {error["field"] for error in json.loads(answer.content)["errors"]}
    assert fields == {"body.list[Text]", "body.str"}


def classes(base: type[BaseModel]) -> Iterator[str]:
    """The names of our classes of bodies, but for those that are a word."""
    for one in base.__subclasses__():
        yield from classes(one)
        if one.__module__.startswith("streams.") and not one.__name__.istitle():
            yield re.escape(one.__name__)


def all_bodies(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each method and path with a body, and the body's schema."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                named = re.sub(r"{\w+}", UUID, path)
                yield method.upper(), named, content["application/json"]["schema"]


def sample(document: Json, schema: Json, choice: int) -> Any:
    """A value of this schema; where it offers several, the one of this number."""
    if reference := schema.get("$ref"):
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return sample(document, options[choice % len(options)], choice)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: sample(document, one, choice) for name, one in fields.items()}
        case "array":
            return [sample(document, schema.get("items", {}), choice)]
        case "string":
            return "x"
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return None
