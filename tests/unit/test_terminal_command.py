"""The terminal client's command: its arguments, and the session that it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.unit.support.scripted_service import RUN, Open, Service, completed


@pytest.mark.parametrize("both", [("hi", "--follow"), (f"--conversation={RUN}", "--model=m")])
def test_arguments_that_exclude_each_other_are_refused(both: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("chat", *both)


def test_an_empty_cookie_file_starts_a_new_session(terminal: Open, tmp_path: Path) -> None:
    (cookies := tmp_path / "chat-127.0.0.1-1.cookies").touch()
    assert terminal(Service([completed()])).chat.ask("hi") == "completed"
    assert "csrftoken" in cookies.read_text()
