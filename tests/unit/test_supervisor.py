"""What `make run` makes of the lines of its parts."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from config.dev import supervisor
from config.dev.process_list import ProcessList
from config.dev.supervisor import LAST_LINES, Supervisor


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Supervisor:
    """Parts of which none has said anything."""
    monkeypatch.setattr(supervisor.subprocess, "Popen", Mock())
    return Supervisor(Path(), 8000, lock=0, file=ProcessList(tmp_path))


def test_a_part_is_ready_when_it_has_said_so_however_much_it_says_after(
    started: Supervisor,
) -> None:
    started.hear("12:00:00 worker.1 | The worker takes runs")
    for number in range(2 * LAST_LINES):
        started.hear(f"12:00:01 worker.1 | run {number} is taken up again")
    started.hear("12:00:01 web.1     | The web process listens on 127.0.0.1 port 8000")
    started.hear("12:00:01 pushpin.1 | Pushpin listens on 127.0.0.1 port 7999")
    started.hear("12:00:01 model.1   | The embedded model is not needed: OPENAI_API_KEY is set.")
    started.hear("12:00:01 bridge.1  | 12:00:01 INFO somebody said: The bridge listens on it")
    assert started.ready == {"worker", "web", "pushpin", "model"}
