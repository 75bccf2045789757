"""Requests that are sent again under the same Idempotency-Key."""

import threading
from typing import Any

import pytest
from django.db import connection

from streams.chat import ask as ask_module
from streams.chat import finish, idempotency
from streams.chat.idempotency import IdempotencyKey, Repeats, TooManyRepeats, repeats
from streams.log.event_log import the_log
from streams.models import Conversation, Message, Run
from streams.service_models import IdempotencyRecord
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.published_run import write_reply

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


def test_a_repeated_request_gets_the_first_response(browser: ApiClient) -> None:
    made = browser.begin()
    paths = {
        "/api/conversations/": {"message": "?"},
        f"{conversation(made['conversation'])}messages/": {"message": "?", "when_busy": "queue"},
        f"{run(made['run'])}cancel/": {},
    }
    for path, body in paths.items():
        first = browser.post(path, body, Idempotency_Key="one")
        rows = (Conversation.objects.count(), Message.objects.count(), Run.objects.count())
        again = browser.post(path, body, Idempotency_Key="one")
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers.get("Location") == first.headers.get("Location")
        assert rows == (
            Conversation.objects.count(),
            Message.objects.count(),
            Run.objects.count(),
        )


def test_a_repeated_interrupting_retry_does_not_end_its_own_run(browser: ApiClient) -> None:
    made = browser.begin()
    wish = (f"{run(made['run'])}retry/", {"when_busy": "interrupt"})
    first = browser.post(*wish, Idempotency_Key="one")
    again = browser.post(*wish, Idempotency_Key="one")
    assert first.status_code == 202
    assert again.content == first.content
    assert Run.objects.get(pk=first.json()["run"]).status == "queued"


def test_an_interrupting_message_is_not_ended_by_an_equal_concurrent_one(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = browser.begin()
    path = f"{conversation(made['conversation'])}messages/"
    wish = (path, {"message": "Rather this.", "when_busy": "interrupt"})
    recall = ask_module.recall
    first: list[Any] = []

    def overtaken(once: IdempotencyKey) -> dict[str, Any] | None:
        kept = recall(once)
        if not first:
            first.append(None)
            first[0] = browser.post(*wish, Idempotency_Key="one")
        return kept

    monkeypatch.setattr(ask_module, "recall", overtaken)
    again = browser.post(*wish, Idempotency_Key="one")
    assert again.content == first[0].content
    assert Run.objects.get(pk=made["run"]).status == "cancelled"
    assert Run.objects.get(pk=again.json()["run"]).status == "queued"


def test_a_cancel_that_was_answered_is_not_repeated(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{run(browser.begin()['run'])}cancel/"
    first = browser.post(path, Idempotency_Key="one")
    monkeypatch.setattr(finish, "cancel", None)
    assert browser.post(path, Idempotency_Key="one").content == first.content


def test_a_cancel_is_stored_only_when_the_run_has_ended(browser: ApiClient, settings: Any) -> None:
    made = browser.begin()
    write_reply(made["run"], "Because")
    path, there = f"{run(made['run'])}cancel/", settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    the_log.cache_clear()
    asked = browser.post(path, Idempotency_Key="one")
    settings.REDIS_URL = there
    the_log.cache_clear()
    stopped, again = (browser.post(path, Idempotency_Key="one") for _ in range(2))
    told = [answer.json()["status"] for answer in (asked, stopped, again)]
    assert told == ["running", "cancelled", "cancelled"]
    assert again.content == stopped.content
    replayed = ["Idempotency-Replayed" in answer.headers for answer in (asked, stopped, again)]
    assert replayed == [False, False, True]


def test_the_text_of_a_deleted_conversation_is_in_no_idempotency_record(browser: ApiClient) -> None:
    begun = ("/api/conversations/", {"message": "A secret?"})
    first = browser.post(*begun, Idempotency_Key="one")
    made = first.json()
    write_reply(made["run"], "A secret.")
    paths = {
        f"{run(made['run'])}cancel/": None,
        f"{run(made['run'])}retry/": {},
        f"{conversation(made['conversation'])}messages/": {"message": "?", "when_busy": "queue"},
    }
    answers = [browser.post(*ask, Idempotency_Key="one") for ask in paths.items()]
    assert [answer.status_code for answer in answers] == [200, 202, 202]
    assert browser.send("DELETE", conversation(made["conversation"])).status_code == 204
    assert "secret" not in str(list(IdempotencyRecord.objects.values()))
    answers = [browser.post(*ask, Idempotency_Key="one") for ask in paths.items()]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert browser.post(*begun, Idempotency_Key="one").content == first.content


def test_a_used_key_with_another_body_is_refused(browser: ApiClient) -> None:
    browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="one")
    other = browser.post("/api/conversations/", {"message": "!"}, Idempotency_Key="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Conversation.objects.count() == 1


def test_an_equivalent_json_body_counts_as_the_same(browser: ApiClient) -> None:
    first = browser.post("/api/conversations/", b'{"message":"?"}', Idempotency_Key="one")
    again = browser.post(
        "/api/conversations/", b'{ "title": null, "message": "\\u003f" }', Idempotency_Key="one"
    )
    assert again.content == first.content


def test_a_key_belongs_to_one_owner_and_one_route(browser: ApiClient) -> None:
    answers = [
        who.post("/api/conversations/", {"message": "?"}, Idempotency_Key="one")
        for who in (browser, ApiClient())
    ]
    assert answers[0].json()["run"] != answers[1].json()["run"]
    cancelled = browser.post(f"{run(answers[0].json()['run'])}cancel/", Idempotency_Key="one")
    assert cancelled.status_code == 200


def test_a_refused_request_leaves_its_key_free(browser: ApiClient, settings: Any) -> None:
    settings.MAX_LIVE_RUNS = 0
    refused = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="one")
    assert refused.status_code == 429
    assert not IdempotencyRecord.objects.exists()
    settings.MAX_LIVE_RUNS = 1
    again = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="one")
    assert again.status_code == 202


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "\x7f", "x" * 256])
def test_an_invalid_key_is_refused(browser: ApiClient, key: str) -> None:
    answer = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")


@pytest.mark.django_db(transaction=True)
def test_equal_concurrent_requests_run_once(browser: ApiClient) -> None:
    together, answers = threading.Barrier(8), []
    browser.begin()

    def post() -> None:
        try:
            twin = ApiClient()
            twin.client.cookies = browser.client.cookies
            twin.csrf = browser.csrf
            together.wait(20)
            answers.append(
                twin.post("/api/conversations/", {"message": "?"}, Idempotency_Key="one")
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.content for answer in answers}) == 1
    assert Conversation.objects.count() == 2


def test_only_repeated_requests_are_rate_limited(
    browser: ApiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_REPEATS = 3
    monkeypatch.setattr(idempotency, "monotonic", lambda: 60.0)  # no new minute begins meanwhile
    repeats.cache_clear()
    body = {"message": "Why?"}
    first = browser.post("/api/conversations/", body, Idempotency_Key="one")
    again = [browser.post("/api/conversations/", body, Idempotency_Key="one") for _ in range(5)]
    assert [answer.status_code for answer in again] == [202] * 3 + [429] * 2
    refused = again[-1]
    assert refused.json()["code"] == "too_many_posts"
    assert 0 < int(refused["Retry-After"]) <= 60
    cancel = f"{run(first.json()['run'])}cancel/"
    assert browser.post(cancel, Idempotency_Key="two").status_code == 200
    assert browser.post(cancel, Idempotency_Key="two").status_code == 429
    assert browser.post("/api/conversations/", body, Idempotency_Key="three").status_code == 202
    assert browser.post("/api/conversations/", body).status_code == 202
    other = ApiClient()
    for _ in range(2):
        answer = other.post("/api/conversations/", body, Idempotency_Key="one")
        assert answer.status_code == 202


def test_the_next_minute_allows_repeats_again(
    browser: ApiClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_REPEATS = 1
    counted, now = Repeats(), [59.5]
    monkeypatch.setattr(idempotency, "monotonic", lambda: now[0])
    counted.count("a")
    with pytest.raises(TooManyRepeats) as refused:
        counted.count("a")
    assert refused.value.seconds == 1
    now[0] += refused.value.seconds
    counted.count("a")
