"""One attempt at one run: a real model's HTTP, a real log, a real database, no Celery."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from django.db.models import QuerySet
from django.db.models.functions import Now

from streams.chat import ask, finish
from streams.models import Message, Run
from tests.integration.support.attempt_runs import WINDOW, asked, heard, says
from tests.integration.support.written_runs import until, write_in_thread
from tests.support.openai_server import Running, expected
from workers import run_attempt
from workers.attempt import Attempt
from workers.prompt.budget import NO_REPLY
from workers.prompt.history import history
from workers.prompt.messages import PromptMessage
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_reply_is_published_by_deltas_and_stored(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 0
    run, text = asked(tokens=30)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.reply.content, run.finish_reason) == ("completed", text, "stop")
    assert heard(run) == (
        text,
        ["message.created", "run.queued", "run.started", *["text.delta"] * 30, "run.completed"],
    )
    assert run.total_tokens == run.input_tokens + run.output_tokens > 0
    assert not run.estimated
    assert run.first_token_at
    assert run.ended_at
    assert run.started_at
    assert run.created_at <= run.started_at <= run.ended_at


def test_a_second_delivery_of_a_task_does_nothing(process: Runtime) -> None:
    run, text = asked(tokens=10, rate=50)
    threads = [write_in_thread(run, process) for _ in range(5)]
    for thread in threads:
        thread.join(20)
    generate(run.id, process)
    assert heard(run)[0] == text
    assert heard(run)[1].count("run.started") == 1
    assert heard(run)[1].count("run.completed") == 1


@WINDOW
def test_many_replies_are_written_concurrently(process: Runtime) -> None:
    runs = [asked(tokens=40, rate=100, seed=seed) for seed in range(20)]
    threads = [write_in_thread(run, process) for run, _ in runs]
    for thread in threads:
        thread.join(30)
    assert [heard(run)[0] for run, _ in runs] == [text for _, text in runs]


@WINDOW
def test_a_cancel_while_the_model_is_silent_closes_its_request(
    process: Runtime, model: Running
) -> None:
    run, _ = asked(tokens=10, pause_at=5, pause=60)
    thread = write_in_thread(run, process)
    until(says(run, 5))
    before = len(model.stats()["closed_by_client"])
    finish.cancel(run.id)
    run.refresh_from_db()
    assert run.reply
    assert run.status == "cancelled"
    until(lambda: len(model.stats()["closed_by_client"]) > before, 2)
    thread.join(5)
    assert not thread.is_alive()
    text, types = heard(run)  # the attempt may have been first to publish the final event
    assert (text, types[-1]) == (run.reply.content, "run.cancelled")


def test_a_cancelled_run_keeps_the_time_of_its_first_token(process: Runtime, settings: Any) -> None:
    settings.LEASE_CHECK_INTERVAL = 3600  # no check happens meanwhile
    run, _ = asked(tokens=1000, rate=50)
    thread = write_in_thread(run, process)
    until(says(run, 3))
    finish.cancel(run.id)
    thread.join(60)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert run.first_token_at


@pytest.mark.parametrize("step", ["history", "_store_input_tokens"])
def test_a_run_whose_database_failed_is_released_soon(
    process: Runtime, settings: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    settings.RUN_LEASE = 0.5
    other, _ = asked(tokens=1000, rate=20)
    thread = write_in_thread(other, process)  # so that there is a lease to renew
    until(says(other, 1))
    run, text = asked(tokens=5, first=0.3)
    store = run_attempt._store_input_tokens

    def away(run: Run) -> list[PromptMessage]:
        raise OperationalError("the connection is lost")

    def away_while_the_model_begins(attempt: Attempt, run: Run) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(QuerySet, "update", lambda *_, **__: away(run))
            store(attempt, run)

    with monkeypatch.context() as patch:
        patch.setattr(run_attempt, step, away if step == "history" else away_while_the_model_begins)
        generate(run.id, process)
    lapsed = Run.objects.filter(pk=run.pk, status="running", lease_until__lt=Now())
    until(lapsed.exists, 5)
    generate(run.id, process)
    run.refresh_from_db()
    told, types = heard(run)
    assert (run.status, run.attempt, told) == ("completed", 2, text)
    begins = types.index("run.started")
    assert types[begins : begins + 2] == ["run.started"] * 2  # the first attempt was stopped
    finish.cancel(other.id)
    thread.join(60)


@WINDOW
def test_at_a_deploy_unfinished_runs_are_released_and_written_again(process: Runtime) -> None:
    run, text = asked(tokens=100, rate=50)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    process.keeper.release_all(called=False)
    thread.join(60)
    run.refresh_from_db()
    assert (run.status, run.attempt, run.uncounted_attempts) == ("queued", 1, 1)
    generate(run.id, process)
    assert heard(run)[0] == text
    assert heard(run)[1].count("run.started") == 2


@pytest.mark.parametrize(
    ("fault", "code"), [("401", "model_unauthorized"), ("reset", "model_interrupted")]
)
def test_a_model_error_ends_the_run_with_a_reason(process: Runtime, fault: str, code: str) -> None:
    run, _ = asked(tokens=20, fault=fault, fault_at=5 if fault == "reset" else 0)
    generate(run.id, process)
    run.refresh_from_db()
    text, types = heard(run)
    assert (run.status, run.code) == ("failed", code)
    assert run.reason
    assert types[-1] == "run.failed"
    assert text == (run.reply.content if run.reply else "")


def test_reasoning_is_published_and_not_stored(process: Runtime, settings: Any) -> None:
    settings.DELTA_WINDOW = 0
    run, text = asked(tokens=5, reasoning=3)
    generate(run.id, process)
    assert heard(run)[1].count("reasoning.delta") == 3
    assert Message.objects.get(role="assistant").content == text


def test_the_history_has_the_latest_completed_reply_of_each_message(process: Runtime) -> None:
    first, text = asked(tokens=3, seed=1)
    generate(first.id, process)
    again = Run.objects.get(pk=ask.retry(first).run)
    Run.objects.filter(pk=again.pk).update(status="failed")
    second = ask.ask(first.conversation, "And then?")
    run = Run.objects.select_related("conversation", "message").get(pk=second.run)
    assert history(run) == [
        PromptMessage("user", first.message.content),
        PromptMessage("assistant", text),
        PromptMessage("user", "And then?"),
    ]


def test_failed_cancelled_and_empty_replies_keep_the_roles_alternating(
    process: Runtime, settings: Any, model: Running
) -> None:
    settings.MODEL_MAX_TRIES = 1
    failed, _ = asked(fault="401")
    generate(failed.id, process)
    talk, questions = failed.conversation, [failed.message.content]

    def go_on(**script: Any) -> Run:
        accepted = ask.ask(talk, json.dumps(script))
        questions.append(json.dumps(script))
        return Run.objects.select_related("conversation", "message").get(pk=accepted.run)

    stopped = go_on(seed="stopped")
    finish.cancel(stopped.id)
    empty = go_on(tokens=0)
    generate(empty.id, process)
    empty.refresh_from_db()
    assert (empty.status, empty.reply and empty.reply.content) == ("completed", "")
    generate(go_on(tokens=3, seed="good").id, process)
    generate(go_on(tokens=3, seed="last").id, process)
    good, last = questions[3:]
    unanswered = [
        {"role": role, "content": content}
        for question in questions[:3]
        for role, content in (("user", question), ("assistant", NO_REPLY.content))
    ]
    assert model.last()["messages"] == [
        *unanswered,
        {"role": "user", "content": good},
        {"role": "assistant", "content": expected(good)},
        {"role": "user", "content": last},
    ]


def test_a_task_without_a_run_does_nothing(process: Runtime) -> None:
    generate(UUID(int=0), process)
    assert not Run.objects.exists()
