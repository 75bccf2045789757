"""Tool calls in traces and metrics: agent, tool and outcome, and nothing of what was passed."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest

from streams.observability import tracing
from streams.protocol.parts import ToolCallPart, ToolResultPart
from workers.tool_calls import MOST_NAMES, OTHER, ToolCalls, ToolNames

SECRET = "swordfish"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def call(id: str, name: str) -> ToolCallPart:
    return ToolCallPart(call=id, name=name, input={"password": SECRET})


def observed(agent: str, tool: str, outcome: str) -> float | None:
    labels = {"agent": agent, "tool": tool, "outcome": outcome}
    return REGISTRY.get_sample_value("unspool_tool_seconds_count", labels)


def test_each_call_has_one_span_and_one_observation(spans: InMemorySpanExporter) -> None:
    calls = ToolCalls("till", ToolNames())
    calls.note(call("1", "refund"))
    calls.note(call("2", "refund"))
    calls.note(call("3", "mail"))
    calls.note("text between them")
    calls.note(ToolResultPart(call="2", output={"password": SECRET}))
    calls.note(ToolResultPart(call="1", error=SECRET))
    calls.note(ToolResultPart(call="1", output="a second result"))
    calls.end()
    found = [(span.name, span.status.status_code.name) for span in spans.get_finished_spans()]
    assert found == [
        ("execute_tool refund", "UNSET"),
        ("execute_tool refund", "ERROR"),
        ("execute_tool mail", "ERROR"),
    ]
    assert [dict(span.attributes or {}) for span in spans.get_finished_spans()][2] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "mail",
        "gen_ai.agent.name": "till",
    }
    assert observed("till", "refund", "returned") == 1
    assert observed("till", "refund", "failed") == 1
    assert observed("till", "mail", "open") == 1
    assert SECRET not in str([span.to_json() for span in spans.get_finished_spans()])
    assert SECRET not in generate_latest().decode()


@pytest.mark.parametrize("name", [f"my password is {SECRET}", "", "x" * 65, "né"])
def test_a_name_that_a_model_invented_is_not_told(name: str, spans: InMemorySpanExporter) -> None:
    calls = ToolCalls("inventive", ToolNames())
    calls.note(call("1", name))
    calls.end()
    assert [span.name for span in spans.get_finished_spans()] == [f"execute_tool {OTHER}"]


def test_the_names_in_the_metrics_are_bounded() -> None:
    names = ToolNames()
    labels = {names.label(f"tool{number}") for number in range(2 * MOST_NAMES)}
    assert len(labels) == MOST_NAMES + 1
    assert names.label("tool0") == "tool0"
