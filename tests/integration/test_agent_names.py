"""Names of models and agents: which queue a run waits in, and which process may claim it."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis
from django.db.models import F
from django.db.models.functions import Now

from streams.chat import ask as asking
from streams.chat import finish
from streams.chat.broker_queue import queue_length
from streams.chat.errors import UnknownModel
from streams.chat.model_names import Kind
from streams.chat.sweep import sweep
from streams.models import Conversation, Run
from streams.protocol.parts import text_parts
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.broker import AGENT_QUEUE, QUEUE, let_dispatch_expire, queued
from workers.lease import claim, claim_in_turn, release

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def name_agents(settings: Any) -> None:
    """Two agents, and leases that need no renewal."""
    settings.AGENTS = {"support": "shop.agents.support", "weather": "shop.agents.weather"}
    settings.RUN_LEASE = 3600.0


@pytest.fixture(autouse=True)
def _agents(settings: Any) -> None:
    name_agents(settings)


def ask(model: str | None = None, owner: str = "user:1") -> UUID:
    return asking.begin(owner=owner, text="Why?", model=model).run


def test_each_kind_of_run_waits_in_a_queue_of_its_own(valkey: redis.Redis) -> None:
    chat, agent = ask(), ask("support")
    assert (queued(valkey), queued(valkey, AGENT_QUEUE)) == ([chat], [agent])
    assert (queue_length(Kind.MODEL), queue_length(Kind.AGENT)) == (1, 1)


def test_a_sweep_sends_each_lost_task_to_the_queue_of_its_kind(valkey: redis.Redis) -> None:
    chats, agents = [ask() for _ in range(3)], [ask("support"), ask("weather")]
    let_dispatch_expire()
    valkey.delete(QUEUE, AGENT_QUEUE)
    sweep()
    assert (queued(valkey), queued(valkey, AGENT_QUEUE)) == (chats, agents)


def test_many_tasks_of_one_kind_do_not_hide_a_lost_one_of_the_other(valkey: redis.Redis) -> None:
    for _ in range(5):
        ask()
    agent = ask("support")
    let_dispatch_expire()
    valkey.delete(AGENT_QUEUE)
    sweep()
    assert queued(valkey, AGENT_QUEUE) == [agent]


def test_a_process_claims_runs_of_its_own_kind_alone(settings: Any) -> None:
    name_agents(settings)
    chat, agent = ask(), ask("support")
    assert claim(chat, uuid4(), Kind.AGENT) is None
    assert claim(agent, uuid4(), Kind.MODEL) is None
    assert claim(chat, uuid4(), Kind.MODEL)
    assert claim(agent, uuid4(), Kind.AGENT)


def test_a_process_without_the_runs_name_leaves_it_to_one_that_has_it(settings: Any) -> None:
    agent = ask("weather")
    settings.AGENTS = {"support": "shop.agents.support"}  # of the process that claims
    assert claim(agent, uuid4(), Kind.AGENT) is None
    settings.AGENTS = {"weather": "shop.agents.weather"}
    assert claim(agent, uuid4(), Kind.AGENT)


def test_an_outdated_task_begins_a_run_of_its_processes_kind() -> None:
    ask(owner="user:1")
    agent = ask("support", owner="user:2")
    instead = claim_in_turn(uuid4(), Kind.AGENT)
    assert instead
    assert instead.id == agent


def test_agents_that_fill_their_places_leave_the_places_of_models_free(settings: Any) -> None:
    settings.AGENT_CONCURRENCY, settings.WORKER_CONCURRENCY = 2, 2
    worker, agents_process = uuid4(), uuid4()
    agents = [ask("support") for _ in range(4)]
    assert sum(bool(claim(one, agents_process, Kind.AGENT)) for one in agents) == 2
    chats = [ask() for _ in range(2)]
    assert [bool(claim(one, worker, Kind.MODEL)) for one in chats] == [True, True]


def test_an_agents_run_that_ends_dispatches_a_refused_run_of_its_own_kind(
    settings: Any, valkey: redis.Redis
) -> None:
    settings.AGENT_CONCURRENCY, settings.WORKER_CONCURRENCY = 1, 1
    chats, agents = [ask(), ask()], [ask("support"), ask("support")]
    begun = claim(agents[0], uuid4(), Kind.AGENT)
    assert begun
    for refused in (*chats, agents[1]):
        Run.objects.filter(pk=refused).update(dispatched_at=None)
    valkey.delete(QUEUE, AGENT_QUEUE)
    finish.complete(begun, text_parts("So."), finish_reason="stop", usage=None)
    assert (queued(valkey), queued(valkey, AGENT_QUEUE)) == ([], [agents[1]])


def test_a_released_run_goes_back_to_the_queue_of_its_kind(valkey: redis.Redis) -> None:
    begun = claim(ask("support"), uuid4(), Kind.AGENT)
    assert begun
    valkey.delete(AGENT_QUEUE)
    release(begun)
    assert queued(valkey, AGENT_QUEUE) == [begun.id]


def test_a_name_that_is_gone_is_unknown_to_a_message_and_a_retry(settings: Any) -> None:
    browser = ApiClient()
    made = browser.begin(model="support")
    Run.objects.update(status="failed", ended_event_id=1, ended_at=Now())
    settings.AGENTS = {}
    for path in (f"{conversation(made['conversation'])}messages/", f"{run(made['run'])}retry/"):
        body = {"message": "And?"} if path.endswith("messages/") else {}
        refused = browser.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")
    assert Run.objects.count() == 1
    with pytest.raises(UnknownModel):
        asking.ask(Conversation.objects.get(), "And?", when_busy="interrupt")


METADATA = {"page": "/cart", "items": [1, 2.5, None, True], "nested": {"a": {"b": []}}}


def test_metadata_is_kept_with_the_run_and_with_its_retry() -> None:
    browser = ApiClient()
    made = browser.begin(model="support", metadata=METADATA)
    Run.objects.update(status="failed", ended_event_id=1, ended_at=Now())
    assert browser.post(f"{run(made['run'])}retry/", {}).status_code == 202
    Run.objects.update(status="failed", ended_event_id=1, ended_at=Now())
    path = f"{conversation(made['conversation'])}messages/"
    assert browser.post(path, {"message": "?", "metadata": {"two": 2}}).status_code == 202
    assert browser.post(path, {"message": "?", "when_busy": "queue"}).status_code == 202
    kept = Run.objects.order_by("created_at").values_list("metadata", flat=True)
    assert list(kept) == [METADATA, METADATA, {"two": 2}, None]


def test_other_metadata_under_the_same_idempotency_key_is_another_request() -> None:
    browser = ApiClient()
    body = {"message": "?", "metadata": METADATA}
    first = browser.post("/api/conversations/", body, Idempotency_Key="one")
    again = browser.post(
        "/api/conversations/",
        json.dumps({"metadata": dict(reversed(METADATA.items())), "message": "?"}).encode(),
        Idempotency_Key="one",
    )
    assert again.content == first.content
    other = browser.post("/api/conversations/", {**body, "metadata": {}}, Idempotency_Key="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"a": "' + b"x" * 4096 + b'"}',
        b"[1]",
        b'"text"',
        b'{"a": 99999999999999999999999}',
        b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
    ids=["too large", "a list", "a text", "a number of 77 bits", "nested", "nested deeper"],
)
def test_metadata_that_cannot_be_kept_is_refused(metadata: bytes) -> None:
    answer = ApiClient().send(
        "POST", "/api/conversations/", b'{"message": "?", "metadata": ' + metadata + b"}"
    )
    assert answer.status_code in (400, 422), answer.content
    assert not Run.objects.exists()


def test_metadata_holds_what_both_databases_can_keep() -> None:
    sent = b'{"message": "?", "metadata": {"\\u0000": "\\ud800", "nan": NaN, "inf": Infinity}}'
    assert ApiClient().send("POST", "/api/conversations/", sent).status_code == 202
    assert Run.objects.get().metadata == {"\ufffd": "\ufffd", "nan": None, "inf": None}


@pytest.mark.parametrize("value", [1e308, -1e300, 1e19, 2.0**64, 2**63, -(2**63), 7, 1.5])
def test_a_number_in_json_is_read_as_it_was_stored(value: float) -> None:
    made = ApiClient().begin(metadata={"value": value})
    metadata = Run.objects.get(pk=made["run"]).metadata
    assert metadata == {"value": value}
    assert orjson.dumps(metadata)


def test_a_list_of_numbers_fills_metadata_to_its_limit() -> None:
    ApiClient().begin(metadata={"n": [7] * 2000})
    assert len(Run.objects.get().metadata["n"]) == 2000


def test_a_waiting_run_whose_name_is_gone_ends_after_ten_minutes(settings: Any) -> None:
    gone, running = ask("weather"), ask("weather")
    assert claim(running, uuid4(), Kind.AGENT)
    settings.AGENTS = {"support": "shop.agents.support"}
    sweep()
    assert Run.objects.get(pk=gone).status == "queued"
    Run.objects.update(created_at=F("created_at") - timedelta(minutes=11))
    sweep()
    ended = Run.objects.get(pk=gone)
    assert (ended.status, ended.code) == ("failed", "unknown_model")
    assert Run.objects.get(pk=running).status == "running"  # its process has the name
