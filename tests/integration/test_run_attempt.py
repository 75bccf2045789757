"""One attempt at one run: a real model's HTTP, a real log, a real database, no Celery."""

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
import redis
from django.db import OperationalError
from django.db.models.functions import Now

from streams.chat import ask, finish, publisher
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import EventLog, log_of, the_log
from streams.log.values import Page
from streams.models import Message, Run
from streams.protocol.sse import decode
from tests.integration.support.written_runs import until, write_in_thread
from tests.support.fold import ConversationState, fold
from tests.support.openai_server import Running, expected, serving
from tests.support.script import pieces, script_of
from workers import reply_writer, run_attempt
from workers.lease import claim, still_held
from workers.prompt.budget import NO_REPLY
from workers.prompt.history import history
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion, ReplyItem
from workers.reply_source import Reply
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def model() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture
def process(valkey: "redis.Redis", settings: Any, model: Running) -> Iterator[Runtime]:
    settings.OPENAI_BASE_URL = model.url
    settings.EMBEDDED_MODEL = False
    settings.LEASE_CHECK_INTERVAL = 0.1
    settings.SWEEP_INTERVAL = 3600
    running = Runtime()
    yield running
    running.close()


@pytest.fixture(params=[0.0, 0.1])
def _window(settings: Any, request: pytest.FixtureRequest) -> None:
    """With each piece an event of its own, and with some six pieces in one."""
    settings.DELTA_WINDOW = request.param


WINDOW = pytest.mark.usefixtures("_window")


def asked(**script: Any) -> tuple[Run, str]:
    text = json.dumps(script)
    accepted = ask.begin(owner="visitor:a", text=text)
    return Run.objects.get(pk=accepted.run), expected(text)


def heard(run: Run) -> tuple[str, list[str]]:
    """The text that a reader of the whole log folds, and the types of its events."""
    cursor, known, types = 0, ConversationState(), []
    while True:
        page = log_of(run.conversation_id).read_after(cursor)
        assert isinstance(page, Page)
        if not page.entries:
            return known.replies[run.id].text, types
        for _, type, data in page.entries:
            known = fold(known, decode(type, data))
            types.append(type)
        cursor = page.entries[-1][0]


def says(run: Run, count: int) -> Callable[[], bool]:
    """Whether the log holds so many words of the run."""

    def enough() -> bool:
        said = log_of(run.conversation_id).state().runs.get(run.id)
        return bool(said and said.text.count(" ") >= count)

    return enough


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


@WINDOW
def test_a_log_lost_during_a_reply_gets_the_whole_text_again(
    process: Runtime, valkey: "redis.Redis"
) -> None:
    run, text = asked(tokens=60, rate=60)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content == text
    now = snapshot(run.conversation)
    assert now.runs == ()
    channel = channel_of(run.conversation_id)
    page = (
        the_log()
        .channel(channel)
        .read_after(int(valkey.hget(f"{{{channel}}}:state", "epoch_start")) - 1)
    )
    assert isinstance(page, Page)
    assert page.entries[0][1] == "text.snapshot"
    assert heard_from(page, run) == text


@WINDOW
def test_a_lost_log_gets_the_whole_text_before_the_next_delta(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=60, rate=60)
    fence, unanswered = ChannelLog.restore_fence, [True, True]

    def fence_and_say_nothing(log: ChannelLog, *args: Any, **kwargs: Any) -> int:
        head = fence(log, *args, **kwargs)
        if unanswered and unanswered.pop():
            raise LogUnavailable  # it is set all the same
        return head

    monkeypatch.setattr(ChannelLog, "restore_fence", fence_and_say_nothing)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    assert unanswered == []
    channel = channel_of(run.conversation_id)
    page = (
        the_log()
        .channel(channel)
        .read_after(int(valkey.hget(f"{{{channel}}}:state", "epoch_start")) - 1)
    )
    assert isinstance(page, Page)
    assert page.entries[0][1] == "text.snapshot"
    assert heard_from(page, run) == text


def heard_from(page: Page, run: Run) -> str:
    known = ConversationState()
    for _, type, data in page.entries:
        known = fold(known, decode(type, data))
    return known.replies[run.id].text


@WINDOW
def test_nothing_follows_a_cancel_while_the_fence_is_restored(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = asked(tokens=1000, rate=50)
    asks: list[bool] = []

    def mine_and_stopped(held: Run) -> bool:
        asks.append(still_held(held))
        if len(asks) == 2:  # the fence is there, and the row has just been asked again
            finish.cancel(run.id)
        return asks[-1]

    monkeypatch.setattr(reply_writer, "still_held", mine_and_stopped)
    thread = write_in_thread(run, process)
    until(says(run, 3))
    valkey.flushall()
    thread.join(60)
    # The cancel runs in another thread than the attempt, which may end before the cancel does.
    until(lambda: Run.objects.get(pk=run.pk).ended_event_id)
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content.count(" ") >= 3
    head = log_of(run.conversation_id).state().head
    last = log_of(run.conversation_id).last()
    assert asks[:2] == [True, True]
    assert last
    assert (run.status, last[:2]) == ("cancelled", (head, "run.cancelled"))


def test_a_log_lost_after_the_last_delta_ends_with_the_whole_text(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=10)
    commit = finish.store

    def commit_and_lose(*args: Any, **kwargs: Any) -> None:
        commit(*args, **kwargs)
        valkey.flushall()

    monkeypatch.setattr(finish, "store", commit_and_lose)
    generate(run.id, process)
    channel = channel_of(run.conversation_id)
    page = (
        the_log()
        .channel(channel)
        .read_after(int(valkey.hget(f"{{{channel}}}:state", "epoch_start")) - 1)
    )
    assert isinstance(page, Page)
    assert heard_from(page, run) == text
    assert [type for _, type, _ in page.entries] == ["text.snapshot", "run.completed"]


@WINDOW
def test_a_superseded_worker_publishes_nothing_more(process: Runtime) -> None:
    run, _ = asked(tokens=100, rate=50)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
    taken = claim(run.id, uuid4())
    assert taken
    log_of(run.conversation_id).seal(run.id, 2)
    thread.join(60)
    assert not thread.is_alive()
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("running", 2)


@pytest.mark.parametrize(
    ("owner", "step", "starts"), [(run_attempt, "history", 1), (publisher, "_record_start", 2)]
)
def test_a_run_whose_database_failed_is_released_soon(
    process: Runtime,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    step: str,
    starts: int,
) -> None:
    settings.RUN_LEASE = 0.5
    other, _ = asked(tokens=1000, rate=20)
    thread = write_in_thread(other, process)  # so that there is a lease to renew
    until(says(other, 1))
    run, text = asked(tokens=5, first=0.3)

    def away(*_: Any) -> NoReturn:
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, away)
        generate(run.id, process)
    lapsed = Run.objects.filter(pk=run.pk, status="running", lease_until__lt=Now())
    until(lapsed.exists, 5)
    generate(run.id, process)
    run.refresh_from_db()
    told, types = heard(run)
    assert (run.status, run.attempt, told) == ("completed", 2, text)
    begins = types.index("run.started")
    deltas = [type for type in types[begins:] if type != "run.started"]
    assert types[begins:] == ["run.started"] * starts + deltas  # the first attempt wrote nothing
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


@WINDOW
def test_a_run_that_takes_too_long_is_ended(process: Runtime, settings: Any) -> None:
    settings.RUN_TIMEOUT = 3.0  # on a busy machine the first token takes a second
    run, _ = asked(tokens=5000, rate=50)
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.code) == ("failed", "run_too_long")
    assert heard(run)[0] == run.reply.content


def deltas(run: Run) -> list[str]:
    """The data of the run's deltas."""
    found: list[str] = []
    cursor, last = 0, False
    while not last:
        page = log_of(run.conversation_id).read_after(cursor)
        assert isinstance(page, Page)
        found += [data for _, type, data in page.entries if type.endswith(".delta")]
        cursor, last = page.entries[-1][0], page.last
    return found


def test_a_long_chunk_is_split_into_bounded_events(process: Runtime) -> None:
    run, text = asked(text=["x" * 150_000, "short", '"\u2028\U0001f600' * 20_000])
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.reply.content, heard(run)[0]) == ("completed", text, text)
    sizes = [len(data.encode()) for data in deltas(run)]
    assert max(sizes) <= 64 * 1024
    assert len(sizes) < 12


@WINDOW
@pytest.mark.parametrize("reasoning", [0, 2])
def test_a_reply_that_exceeds_its_bound_is_ended_and_its_beginning_is_kept(
    process: Runtime, model: Running, settings: Any, reasoning: int
) -> None:
    run, text = asked(text=["\u6f22" * 20] * 5_000, rate=1000, reasoning=reasoning)
    thoughts = len("".join(script_of(run.message.content).thoughts()))
    settings.MAX_REPLY_BYTES = 100 + thoughts
    closed = len(model.stats()["closed_by_client"])
    generate(run.id, process)
    run.refresh_from_db()
    assert run.reply
    assert (run.status, run.code) == ("failed", "reply_too_long")
    assert run.reason == "The reply became too long and was ended."
    assert run.reply.content == heard(run)[0] == text[:33]
    assert heard(run)[1][-1] == "run.failed"
    until(lambda: len(model.stats()["closed_by_client"]) > closed)


def test_a_reply_can_be_as_long_as_its_bound(process: Runtime, settings: Any) -> None:
    run, text = asked(text=["\u6f22" * 20] * 5)
    settings.MAX_REPLY_BYTES = len(text.encode())
    generate(run.id, process)
    run.refresh_from_db()
    assert (run.status, heard(run)[0]) == ("completed", text)


@WINDOW
def test_reasoning_and_text_are_published_again_in_one_snapshot(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=60, rate=60, reasoning=50)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    channel = channel_of(run.conversation_id)
    page = (
        the_log()
        .channel(channel)
        .read_after(int(valkey.hget(f"{{{channel}}}:state", "epoch_start")) - 1)
    )
    assert isinstance(page, Page)
    known = ConversationState()
    for _, type, data in page.entries:
        known = fold(known, decode(type, data))
    told = "".join(script_of(run.message.content).thoughts())
    assert (known.replies[run.id].reasoning, known.replies[run.id].text) == (told, text)
    kinds = [type for _, type, _ in page.entries]
    assert (kinds[0], kinds.count("text.snapshot")) == ("text.snapshot", 1)


@WINDOW
def test_a_reply_that_waits_for_redis_is_not_too_long(
    process: Runtime, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RUN_TIMEOUT = 1.0
    run, text = asked(tokens=5)
    said = pieces(run.message.content)
    append, appended_at = EventLog.append, list[float]()

    async def items() -> AsyncGenerator[ReplyItem, None]:
        for piece in said:
            yield piece
        yield Completion("stop", None)

    def away_at_first(log: EventLog, appends: Any) -> Any:
        appended_at.append(monotonic())
        if monotonic() < appended_at[0] + 2 * settings.RUN_TIMEOUT:
            raise LogUnavailable
        return append(log, appends)

    # Not the model server: on a busy machine, to read it could take longer than RUN_TIMEOUT.
    process.source = lambda *_, **__: Reply(items=items(), has_returned=lambda _: True)
    monkeypatch.setattr(EventLog, "append", away_at_first)
    generate(run.id, process)
    run.refresh_from_db()
    assert (run.status, run.code) == ("completed", "")
    assert heard(run)[0] == text


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
