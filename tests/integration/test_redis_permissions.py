"""A Redis user without all permissions: each refused command is named, with its rule."""

import re
from collections.abc import Callable, Iterator
from io import StringIO
from time import monotonic
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from streams.log import redis_permissions
from streams.log.event_log import the_log
from streams.log.library import LIBRARY
from streams.log.redis_permissions import LOG

# The probe's threads see the database as another process would.
pytestmark = [pytest.mark.django_db(transaction=True)]
Restrict = Callable[..., None]

REFUSED = [
    (("-@dangerous",), ["INFO"], "+info"),
    (("resetchannels",), ["channels conversation-*"], "&conversation-*"),
    (("-subscribe", "-xadd"), ["XADD", "SUBSCRIBE"], "+xadd +subscribe"),
    (("-@scripting",), ["FCALL", "FUNCTION LOAD"], "+fcall +function|load"),
    (("-brpop",), ["BRPOP"], "+brpop"),
    (("-hkeys",), ["HKEYS"], "+hkeys"),
    (("-multi",), ["MULTI"], "+multi"),
    (
        ("resetkeys", "~{conversation-*", "~unacked*", "~_kombu.*"),
        ["keys unspool*"],
        "~unspool*",
    ),
    (
        ("resetkeys", "~{conversation-*", "~unacked*", "~_kombu.binding.*", "~unspool*"),
        ["keys _kombu.*"],
        "~_kombu.*",
    ),
]


@pytest.fixture
def user(valkey: Any, settings: Any) -> Iterator[Restrict]:
    """Redis with a user that has all permissions but those that a test removes."""

    def restrict(*rules: str) -> None:
        valkey.execute_command(
            "ACL", "SETUSER", "unspool", "reset", "on", ">pw", "~*", "&*", "+@all", *rules
        )

    restrict()
    settings.REDIS_URL = settings.REDIS_URL.replace("unix://", "unix://unspool:pw@")
    the_log.cache_clear()
    yield restrict
    valkey.execute_command("ACL", "DELUSER", "unspool")


def ready() -> dict[str, Any]:
    answer = Client().get("/health/ready")
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.mark.parametrize(("rules", "refused", "mend"), REFUSED)
def test_commands_that_redis_refuses_are_named(
    user: Restrict,
    valkey: Any,
    monkeypatch: pytest.MonkeyPatch,
    rules: tuple[str, ...],
    refused: list[str],
    mend: str,
) -> None:
    monkeypatch.setattr(redis_permissions, "FRESH", 0.0)  # each check asks again
    assert ready() == {"status": "ok", "database": "ok", "redis": "ok"}
    user(*rules)
    told = {"status": "degraded", "database": "ok", "redis": "refused", "refused": refused}
    assert ready() == told
    user(*rules, *mend.split())  # as the doctor says
    assert ready()["redis"] == "ok"
    assert valkey.keys() == []  # nothing that was asked about was done


def calls(valkey: Any, command: str) -> int:
    """How often Redis was given this command."""
    told = valkey.info("commandstats").get(f"cmdstat_{command}", {})
    return int(told.get("calls", 0))


def test_ping_is_sent_each_time_and_permissions_are_checked_once_a_minute(
    user: Restrict, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings, asked = calls(valkey, "ping"), calls(valkey, "multi")
    for _ in range(10):
        assert ready()["redis"] == "ok"
    assert calls(valkey, "ping") >= pings + 10
    assert calls(valkey, "multi") == asked + 1
    user("-xadd")
    assert ready()["redis"] == "ok"  # the minute has not passed
    monkeypatch.setattr(redis_permissions, "monotonic", lambda: monotonic() + 60)
    assert ready()["refused"] == ["XADD"]
    assert calls(valkey, "multi") == asked + 2


def test_a_redis_that_refuses_ping_counts_as_reachable_and_is_named(user: Restrict) -> None:
    user("-ping")
    assert ready()["refused"] == ["PING"]


def test_a_redis_that_fails_is_noticed_by_the_next_check(user: Restrict, valkey: Any) -> None:
    assert ready()["redis"] == "ok"
    valkey.execute_command("ACL", "DELUSER", "unspool")  # its connections are closed
    assert ready()["redis"] == "away"


def test_a_full_redis_does_not_count_as_a_refused_permission(user: Restrict, valkey: Any) -> None:
    valkey.config_set("maxmemory", "1")
    try:
        assert ready()["redis"] == "ok"
    finally:
        valkey.config_set("maxmemory", "0")


def test_each_command_of_the_operations_is_checked() -> None:
    called = set(re.findall(r"redis\.p?call\('([A-Z]+)'", LIBRARY.text))
    assert called <= {str(words[0]) for words in LOG}


def told_by_the_doctor(part: str) -> str:
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", stdout=out)
    (line,) = (line for line in out.getvalue().splitlines() if line.split()[1] == part)
    return line


@pytest.mark.parametrize(("rules", "refused", "mend"), REFUSED)
def test_doctor_says_what_is_refused_and_how_to_allow_it(
    user: Restrict, rules: tuple[str, ...], refused: list[str], mend: str
) -> None:
    user(*rules)
    line = told_by_the_doctor("redis")
    assert line.startswith(f"ILL   redis     refuses its user what the service needs: {refused[0]}")
    assert line.endswith(f"Run `ACL SETUSER <user> {mend}`.")
    assert "does not answer" not in line


def test_doctor_says_what_it_is_not_permitted_to_check(user: Restrict) -> None:
    user("-@dangerous")
    assert "whether it keeps its data is not known" in told_by_the_doctor("redis")
    user("-time")
    assert told_by_the_doctor("clocks") == (
        "ILL   clocks    cannot be told: Redis refuses its user TIME."
        " Run `ACL SETUSER <user> +time`."
    )


def test_doctor_distinguishes_a_wrong_password_from_silence(user: Restrict, settings: Any) -> None:
    settings.REDIS_URL = settings.REDIS_URL.replace(":pw@", ":wrong@")
    the_log.cache_clear()
    assert "does not let us in" in told_by_the_doctor("redis")
    assert ready()["redis"] == "away"
