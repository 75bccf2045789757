"""No two transactions wait for each other, and what comes between two steps fails no request."""

import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from streams.access.visitors import adopt_conversations
from streams.chat import ask, conversations, finish, publisher
from streams.models import Conversation, Run
from streams.protocol.parts import text_parts
from workers.lease import claim

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

OWNER = "visitor:1"
SAID_WITHOUT_LOCK = ("sqlite", "conversation")
LOCKS = re.compile(
    r'^(?:UPDATE|INSERT INTO|DELETE FROM|SELECT .* FROM) "unspool_(\w+)".*', re.DOTALL
)


def transactions(queries: list[dict[str, str]]) -> Iterator[list[str]]:
    """Of each transaction, the tables that it writes to, in order; a locking SELECT is a write."""
    tables: list[str] | None = None
    for query in queries:
        said = query["sql"]
        if said.startswith("BEGIN"):
            tables = []
        elif said in {"COMMIT", "ROLLBACK"} and tables is not None:
            yield tables
            tables = None
        elif tables is not None and (found := LOCKS.match(said)):
            # SQLite locks no rows: there the look at the conversation stands for its lock.
            lock = "FOR UPDATE" in said or (connection.vendor, found[1]) == SAID_WITHOUT_LOCK
            if lock or not said.startswith("SELECT"):
                tables.append(found[1])


def asked() -> tuple[Conversation, Run]:
    made = ask.begin(owner=OWNER, text="Why?")
    return Conversation.objects.get(pk=made.conversation), Run.objects.get(pk=made.run)


def claimed() -> Run:
    _, run = asked()
    held = claim(run.id, uuid4())
    assert held
    publisher.publish_start(held)
    return held


def answered() -> Run:
    run = claimed()
    finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
    return run


def interrupted() -> None:
    ask.ask(claimed().conversation, "And?", when_busy="interrupt")


@pytest.mark.parametrize(
    "steps",
    [
        answered,
        interrupted,
        lambda: ask.retry(answered()),
        lambda: finish.cancel(asked()[1].id),
        lambda: conversations.delete(claimed().conversation),
        lambda: adopt_conversations(visitor=OWNER, user=f"user:{asked()[1].id}"[:64]),
    ],
    ids=["answer", "interrupt", "retry", "cancel", "delete", "adopt"],
)
def test_every_transaction_writes_the_conversation_before_its_runs(
    steps: Callable[[], object],
) -> None:
    """Else two that meet in one conversation may wait for each other: a deadlock, and a 503."""
    with CaptureQueriesContext(connection) as captured:
        steps()
    written = [tables for tables in transactions(captured.captured_queries) if "run" in tables]
    assert any("conversation" in tables for tables in written)
    for tables in written:
        if "conversation" in tables:
            assert tables.index("conversation") < tables.index("run"), tables


def deleted_before(step: Callable[..., object]) -> Callable[..., object]:
    """The step, with the conversation that it is about deleted from another device just before."""

    def meanwhile(*about: object, **named: object) -> object:
        conversations.delete(Conversation.objects.get())
        return step(*about, **named)

    return meanwhile


def test_a_post_is_answered_when_the_conversation_is_deleted_before_publishing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "publish_queued", deleted_before(publisher.publish_queued))
    assert ask.begin(owner=OWNER, text="Why?").run


def test_an_interrupting_post_is_answered_when_the_conversation_is_deleted_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversation = claimed().conversation
    monkeypatch.setattr(ask, "cancel_unheld", deleted_before(ask.cancel_unheld))
    assert ask.ask(conversation, "And?", when_busy="interrupt").run
    assert not Conversation.objects.exists()


def test_a_post_is_answered_when_the_database_fails_after_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(conversation: Conversation, **_: object) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(ask, "publish_pending", away)
    assert ask.begin(owner=OWNER, text="Why?").run
