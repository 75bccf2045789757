"""A thread that appends pieces keeps its connection, over outages and restarts of Redis."""

import threading
from typing import Any

import pytest
import redis

from streams.log.errors import LogUnavailable
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import Page
from tests.integration.support.logged_run import LoggedRun


@pytest.fixture
def log(valkey_url: str, settings: Any) -> EventLog:
    settings.REDIS_URL, settings.REDIS_TIMEOUT = valkey_url, 0.5
    return EventLog(Servers())


def test_a_broken_connection_is_replaced_within_the_trip(
    log: EventLog, valkey: "redis.Redis"
) -> None:
    logged = LoggedRun(valkey)
    begun = logged.start()
    for index in range(3):
        assert log.append([logged.delta(index)]) == [begun + 1 + index]
        valkey.execute_command("CLIENT", "KILL", "TYPE", "normal")


def test_a_trip_without_an_answer_leaves_none_for_the_next(
    log: EventLog, valkey: "redis.Redis"
) -> None:
    one, two = LoggedRun(valkey), LoggedRun(valkey)
    begun = {each: each.start() for each in (one, two)}
    assert log.append([one.delta(0)]) == [begun[one] + 1]
    valkey.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    with pytest.raises(LogUnavailable):
        log.append([one.delta(1)])
    valkey.execute_command("CLIENT", "UNPAUSE")
    assert log.append([two.delta(0)]) == [begun[two] + 1]
    assert log.append([one.delta(1)]) == [begun[one] + 2]
    page = one.at().read_after(begun[one])
    assert isinstance(page, Page)
    assert [type for _, type, _ in page.entries] == ["text.delta"] * 2


def test_each_thread_appends_on_a_connection_of_its_own(
    log: EventLog, valkey: "redis.Redis"
) -> None:
    runs = [LoggedRun(valkey) for _ in range(4)]
    begun = [run.start() for run in runs]
    answers: dict[int, list[Any]] = {}
    together = threading.Barrier(len(runs))

    def append(number: int) -> None:
        together.wait(10)
        answers[number] = [log.append([runs[number].delta(at)])[0] for at in range(200)]

    threads = [threading.Thread(target=append, args=(number,)) for number in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, first in enumerate(begun):
        assert answers[number] == list(range(first + 1, first + 201))
