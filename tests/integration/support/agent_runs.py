"""Runs of an agent that calls tools, and their content in the rows and in the log."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from streams.chat import ask, finish
from streams.chat.model_names import Kind
from streams.chat.sweep import sweep
from streams.log.event_log import log_of
from streams.models import Run
from streams.protocol.parts import Part
from tests.support.agent_paths import TOOLS
from workers.lease import claim


def name_agents(settings: Any) -> None:
    """Set one agent, whose process checks its leases often."""
    settings.AGENTS = {"tools": TOOLS}
    settings.LEASE_CHECK_INTERVAL = 0.1
    settings.SWEEP_INTERVAL = 3600


def asked(record: Path | None, *steps: dict[str, Any]) -> Run:
    metadata = {"record": str(record)} if record else None
    text = json.dumps(steps)
    made = ask.begin(owner="visitor:a", text=text, model="tools", metadata=metadata)
    return Run.objects.get(pk=made.run)


def now(run: Run) -> Run:
    return Run.objects.select_related("reply").get(pk=run.pk)


def killed(run: Run) -> None:
    """Let the run's process have died, and let another process's sweep find the run."""
    Run.objects.filter(pk=run.pk).update(lease_until="2026-01-01T00:00:00Z")
    sweep()


def cancelled(run: Run) -> None:
    finish.cancel(run.pk)


def abandoned(run: Run) -> Run:
    """Claim the run, and leave it as a process that dies does."""
    held = claim(run.id, uuid4(), Kind.AGENT)
    assert held
    return held


def kinds(run: Run) -> list[str]:
    """The type of each stored part, or the error if it is a failed result."""
    assert run.reply
    parts: list[dict[str, Any]] = run.reply.parts or []
    return [part.get("error") or part["type"] for part in parts]


def published(run: Run) -> tuple[Part, ...]:
    """The parts that the log holds."""
    state = log_of(run.conversation_id, 0).state()
    progress = state.runs.get(run.id) if state else None
    return progress.parts if progress else ()
