"""One trace from a POST to the last token, over real processes, delivered to a real collector."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Stacks
from tests.support.many_followers import delta, following
from tests.support.otlp_collector import collecting
from tests.support.ports import HOST, essentials, free_port
from tests.support.procfile import CHECKOUT
from tests.support.stack_settings import KEY
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script
from tests.support.waiting import until

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}  # ms until spans are delivered
CANARY = "canary-77ab"


async def test_a_trace_goes_from_the_callers_span_to_the_last_token(stacks: Stacks) -> None:
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "DELTA_WINDOW": "0", **SOON}
        async with stacks(also=settings) as stack:
            visitor = await stack.visitor()
            trace, caller = secrets.token_hex(16), secrets.token_hex(8)
            visitor.http.headers.update(
                {
                    "traceparent": f"00-{trace}-{caller}-01",
                    "tracestate": f"vendor={CANARY}",
                    "baggage": f"who={CANARY}",
                    "X-Request-ID": "the-one-to-follow",
                }
            )
            one = await visitor.ask(script(text=[CANARY] * 20, rate=40), title=CANARY)
            follower = visitor.follower(one.conversation, cursor=one.cursor)
            async with following([follower], within=30):
                pass
            await until(lambda: len(collector.spans(trace)) == 5, within=10, what="five spans")
            spans = {span.name: span for span in collector.spans(trace)}
            rung = [task for _, task in await stack.valkey.queued_tasks()]
        asked = spans["POST /api/conversations/"]
        attempt, queued, first, ending = (
            spans[name] for name in ("attempt", "queued", "first token", "ending")
        )
        assert {span.name: span.parent for span in spans.values()} == {
            asked.name: caller,
            queued.name: asked.id,
            attempt.name: asked.id,
            first.name: attempt.id,
            ending.name: attempt.id,
        }
        assert asked.service == "unspool-web"
        assert {span.service for span in (attempt, queued, first, ending)} == {"unspool-worker"}
        assert asked.started <= queued.started <= queued.ended <= first.ended <= ending.started
        assert ending.ended <= attempt.ended
        assert asked.attributes == {
            "unspool.request": "the-one-to-follow",
            "unspool.run": one.run,
            "http.response.status_code": "202",
        }
        assert attempt.attributes == {
            "unspool.run": one.run,
            "unspool.conversation": one.conversation,
            "unspool.attempt": "1",
            "unspool.request": "the-one-to-follow",
            "gen_ai.request.model": "scripted",
        }
        assert ending.attributes == {"unspool.outcome": "finished", "unspool.pieces": "20"}
        secret = [CANARY, KEY, *visitor.http.cookies.values()]
        for words in (*collector.bodies, *rung):
            assert [one for one in secret if one.encode() in words] == []


@pytest.mark.alone  # the worker must end within seconds, while its run is not yet written
async def test_a_run_released_by_a_deploy_continues_its_trace(stacks: Stacks) -> None:
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "30",  # the worker that ends delivers its spans even late
            "WORKER_DRAIN": "0.1",
            **SOON,
        }
        async with stacks(also=settings) as stack:
            visitor = await stack.visitor()
            trace = secrets.token_hex(16)
            visitor.http.headers["traceparent"] = f"00-{trace}-{secrets.token_hex(8)}-01"
            one = await visitor.ask(script(tokens=120, rate=40))
            follower = visitor.follower(one.conversation, cursor=one.cursor)
            async with following([follower], within=60):
                await follower.wait_for(delta(5), within=30)
                stack.worker.terminate()  # at once: a start takes longer than the reply under load
                await stack.worker.ended(within=5)
                await stack.add_worker()
            await until(lambda: len(collector.spans(trace)) == 8, within=10, what="eight spans")
        first, second = (span for span in collector.spans(trace) if span.name == "attempt")
        lost, finished = (span for span in collector.spans(trace) if span.name == "ending")
        assert (first.attributes["unspool.attempt"], second.attributes["unspool.attempt"]) == (
            "1",
            "2",
        )
        assert (lost.attributes["unspool.outcome"], lost.parent) == ("lost", first.id)
        assert second.parent == lost.id
        assert (finished.attributes["unspool.outcome"], finished.parent) == ("finished", second.id)


async def test_a_collector_that_does_not_answer_delays_no_run(stacks: Stacks) -> None:
    """A port without a listener, and one that accepts connections and sends nothing."""
    async with Proxy((HOST, free_port())) as silent:
        silent.stall()
        for port in (free_port(), silent.port):
            settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{port}", **SOON}
            async with stacks(also=settings) as stack:
                visitor = await stack.visitor()
                one = await visitor.ask(script(tokens=20, rate=40))
                follower = visitor.follower(one.conversation, cursor=one.cursor)
                async with following([follower], within=30):
                    pass
                assert (await visitor.run(one.run))["status"] == "completed"
                for part in (stack.web, stack.worker):
                    part.terminate()
                    await part.ended(within=5)
                assert "left requests behind" not in stack.web.log.read_text()


def test_without_a_collector_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    words = (
        "import sys, config.asgi, config.celery, workers.tasks; from config.telemetry import begin;"
        "begin('web'); sys.exit('opentelemetry.exporter' in sys.modules)"
    )
    settings = {**essentials(), "DATA_DIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", words], env=settings, cwd=CHECKOUT, check=True, timeout=60
    )
