"""Runs over HTTP: status, cancel, retry, and `Prefer: wait`."""

from time import process_time
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest

from streams.api import prefer_wait
from streams.api.prefer_wait import seconds_of
from streams.chat import finish, publisher
from streams.protocol.events import Usage
from streams.protocol.parts import text_parts
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.published_run import write_reply

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
SPENT = Usage(input_tokens=3, output_tokens=2, total_tokens=5, estimated=False)


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


def told(**known: Any) -> dict[str, Any]:
    timings = {"queued_at": ANY, "started_at": None, "first_token_at": None, "ended_at": None}
    report = {
        "id": ANY,
        "conversation": ANY,
        "message": ANY,
        "reply": None,
        "status": "queued",
        "attempt": 0,
        "model": "smollm2-135m-instruct",
        "text": "",
        "reasoning": "",
        "parts": [],
        "finish_reason": None,
        "error": None,
        "usage": None,
        "timings": timings | known.pop("timings", {}),
    }
    if text := known.get("text"):
        report["parts"] = [{"type": "text", "text": text}]
    return report | known


def test_a_run_is_reported_from_its_queue_to_its_end(browser: ApiClient) -> None:
    made = browser.begin()
    names = {"id": made["run"], "conversation": made["conversation"], "message": made["message"]}
    assert browser.get(run(made["run"])).json() == told(**names)
    taken = write_reply(made["run"], "Because", " of")
    started = {"started_at": ANY}
    assert browser.get(run(made["run"])).json() == told(
        **names, status="running", attempt=1, text="Because of", timings=started
    )
    finish.complete(taken, text_parts("Because of light."), finish_reason="stop", usage=SPENT)
    done = browser.get(run(made["run"])).json()
    assert done == told(
        **names,
        status="completed",
        attempt=1,
        reply=ANY,
        text="Because of light.",
        finish_reason="stop",
        usage={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "estimated": False},
        timings=started | {"first_token_at": ANY, "ended_at": ANY},
    )
    assert done["reply"] is not None
    assert done["timings"]["ended_at"] is not None


def test_a_failed_run_has_its_reason(browser: ApiClient) -> None:
    made = browser.begin()
    finish.fail(write_reply(made["run"]), (), code="model_refused", reason="The model said no.")
    failed = browser.get(run(made["run"])).json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "model_refused", "reason": "The model said no."}


def test_the_text_of_an_active_run_is_null_while_redis_is_down(
    browser: ApiClient, settings: Any
) -> None:
    made = browser.begin()
    write_reply(made["run"], "Because")
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    publisher.the_log.cache_clear()
    away = browser.get(run(made["run"])).json()
    assert (away["status"], away["text"]) == ("running", "")


def test_cancelling_a_run_again_gives_the_same_result(browser: ApiClient) -> None:
    made = browser.begin()
    write_reply(made["run"], "Because", " of")
    stopped = browser.post(f"{run(made['run'])}cancel/")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "cancelled")
    assert stopped.json()["text"] == "Because of"
    assert stopped.json()["usage"]["estimated"] is True
    assert browser.post(f"{run(made['run'])}cancel/", {}).content == stopped.content
    assert browser.get(run(made["run"])).content == stopped.content


def test_only_the_last_turn_can_be_retried(browser: ApiClient) -> None:
    made = browser.begin()
    again = f"{run(made['run'])}retry/"
    busy = browser.post(again)
    assert (busy.status_code, busy.json()["code"]) == (409, "conversation_busy")
    retried = browser.post(again, {"when_busy": "interrupt"})
    assert retried.status_code == 202
    assert retried.json()["message"] == made["message"]
    assert retried.json()["run"] != made["run"]
    assert retried["Location"] == conversation(made["conversation"])
    messages = f"{conversation(made['conversation'])}messages/"
    browser.post(messages, {"message": "And?", "when_busy": "interrupt"})
    for when_busy in ("queue", "reject"):  # and not first that it is busy, which passes
        late = browser.post(again, {"when_busy": when_busy})
        assert (late.status_code, late.json()["code"]) == (409, "not_last_turn")


def test_an_owner_at_the_limit_of_active_runs_gets_retry_after(
    browser: ApiClient, settings: Any
) -> None:
    settings.MAX_LIVE_RUNS = 1
    browser.begin()
    answer = browser.post("/api/conversations/", {"message": "?"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_runs")
    assert int(answer["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 0),
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('respond-async, wait="7"; x=1', 7),
        ("wait=3, wait=9", 3),
        ("wait=600", 60),
        ("wait=" + "9" * 5000, 60),
        ("wait=0", 0),
        ("wait", 0),
        ("wait=", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=٣", 0),
        ('note="a, wait=9"', 0),
        ('"' * 1000, 0),
        (',;=",', 0),
    ],
)
def test_prefer_wait_is_parsed_as_rfc_7240_says(prefer: str, seconds: int) -> None:
    assert seconds_of(prefer) == seconds


def test_a_huge_prefer_wait_is_bounded() -> None:
    begun = process_time()  # other processes do not count
    assert seconds_of('wait=9, a="' + '\\"' * 100_000) == 9
    assert process_time() - begun < 1


@pytest.mark.django_db(transaction=True)  # its connection is given back while it waits
def test_prefer_wait_returns_the_whole_reply(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    look = prefer_wait._ended

    def while_it_is_written(ids: list[UUID]) -> Any:
        looks.append(ids)
        if len(looks) == 2:
            taken = write_reply(str(ids[0]), "Because")
            finish.complete(taken, text_parts("Because."), finish_reason="stop", usage=SPENT)
        return look(ids)

    monkeypatch.setattr(prefer_wait, "_ended", while_it_is_written)
    answer = browser.post("/api/conversations/", {"message": "Why?"}, Prefer="wait=20")
    assert (answer.status_code, answer["Preference-Applied"]) == (200, "wait")
    assert answer["Location"] == conversation(answer.json()["conversation"])
    assert answer.json()["text"] == "Because."
    assert answer.content == browser.get(run(answer.json()["id"])).content
    assert len(looks) == 2


@pytest.mark.django_db(transaction=True)
def test_prefer_wait_that_times_out_returns_the_accepted_run(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefer_wait, "LOOK", 0.01)
    monkeypatch.setattr(prefer_wait, "LONGEST", 0.05)
    answer = browser.post("/api/conversations/", {"message": "Why?"}, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert "Preference-Applied" not in answer.headers
