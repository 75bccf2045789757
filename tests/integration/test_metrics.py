"""The metrics: waiting runs, appends, recovered gaps, and what the dashboard shows."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from django.test import Client

from streams.chat.ask import begin
from streams.chat.publisher import append
from streams.chat.sweep import sweep
from streams.log.channels import channel_of
from streams.log.event_log import the_log
from streams.log.values import Append
from streams.models import Run
from streams.observability import metrics
from streams.protocol.events import RunStarted, TextDelta
from tests.integration.support.broker import QUEUE
from tests.support.appends import text_append
from tests.support.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


def counted() -> dict[str, float]:
    """Every sample of ours, by its name and labels."""
    told = Client().get("/metrics").content.decode()
    return {name: float(value) for name, value in re.findall(r"^(unspool_\S+) (\S+)$", told, re.M)}


def grown(before: dict[str, float]) -> dict[str, float]:
    return {
        name: value - before.get(name, 0)
        for name, value in counted().items()
        if value != before.get(name, 0)
    }


def test_every_metric_of_the_dashboard_exists() -> None:
    told = Client().get("/metrics").content.decode()
    families = set(re.findall(r"^# TYPE (unspool_\w+)", told, re.M))
    assert families == {
        "unspool_live_runs",
        "unspool_oldest_queued_run_seconds",
        "unspool_redis_memory_bytes",
        "unspool_redis_memory_limit_bytes",
        "unspool_redis_memory_fragmentation_ratio",
        "unspool_queue_length",
        "unspool_first_token_seconds",
        "unspool_deltas_appended_total",
        "unspool_appends_rejected_total",
        "unspool_runs_ended_total",
        "unspool_tool_seconds",
        "unspool_agents_outliving_run",
        "unspool_sweeps_total",
        "unspool_runs_redispatched_total",
        "unspool_followers",
        "unspool_dialect_streams",
        "unspool_replays_total",
        "unspool_resets_total",
        "unspool_gaps_recovered_total",
        "unspool_subscriptions_total",
        "unspool_redis_subscription_start_seconds",
    } | {name for name in families if name.endswith("_created")}


def test_accepted_and_rejected_appends_are_counted() -> None:
    run = Run.objects.get(pk=begin(owner="visitor:1", text="?").run)
    channel = channel_of(run.conversation_id)
    the_log().channel(channel).append_start(
        RunStarted(run=run.id, attempt=2, model="m"), abandoned=False
    )

    def piece(attempt: int) -> Append:
        event = TextDelta(run=run.id, attempt=attempt, index=0, text="a")
        return text_append(channel, event)

    before = counted()
    append([piece(1), piece(2)])
    told = {"unspool_deltas_appended_total": 1, "unspool_appends_rejected_total": 1}
    assert told.items() <= grown(before).items()


def test_the_dashboard_queries_only_existing_metrics() -> None:
    board = json.loads((CHECKOUT / "docs" / "grafana" / "unspool.json").read_text())
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    told = Client().get("/metrics").content.decode()
    families = set(re.findall(r"^# TYPE (unspool_\w+)", told, re.MULTILINE))
    named = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"unspool_\w+", asked)}
    assert named == {name for name in families if not name.endswith("_created")}


def test_a_waiting_run_is_counted_and_dispatched_again(valkey: redis.Redis) -> None:
    run = begin(owner="visitor:1", text="?").run
    valkey.delete(QUEUE)  # its task is lost
    Run.objects.filter(pk=run).update(dispatched_at=None)
    before = counted()
    assert before['unspool_live_runs{status="queued"}'] == 1
    sweep()
    assert grown(before)["unspool_runs_redispatched_total"] == 1
    assert grown(before)["unspool_sweeps_total"] == 1


def test_a_process_without_http_serves_metrics_on_its_own_port(settings: Any) -> None:
    settings.METRICS_PORT = free_port()
    metrics.serve()
    with urlopen(f"http://127.0.0.1:{settings.METRICS_PORT}/metrics", timeout=5) as answer:
        assert b"unspool_deltas_appended_total" in answer.read()


def test_a_metrics_port_in_use_stops_no_process(settings: Any, caplog: Any) -> None:
    settings.METRICS_PORT = free_port()
    metrics.serve()
    metrics.serve()
    assert f"no metrics at port {settings.METRICS_PORT}" in caplog.text
