"""`POST /ag-ui` and the routes below it: names, the history, limits, access."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any

import orjson
import pytest
import redis
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.chat.finish import cancel
from streams.chat.personal_data import export_rows
from streams.dialects import ag_ui_api
from streams.models import Conversation, Message, Run
from streams.observability import metrics
from streams.protocol.parts import ReasoningPart, TextPart, part_json
from streams.service_models import ApiToken
from streams.urls import served
from workers.prompt.history import history

JSON = "application/json"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    one.close()


class Page:
    """What a page's requests are answered. Live streams stay unread, but for their beginning."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client()
        self.responses: list[HttpResponse] = []

    def close(self) -> None:
        for response in self.responses:
            response.close()

    def post(
        self,
        *messages: dict[str, Any],
        run: str = "r1",
        thread: str = "t1",
        to: str = "",
        **also: Any,
    ) -> HttpResponse:
        body = {"threadId": thread, "runId": run, "messages": list(messages)}
        sent = {**body, "tools": [], "context": [], "state": {}, "forwardedProps": {}, **also}
        response = self.client.post(f"/ag-ui{to}", sent, content_type=JSON)
        self.responses.append(response)
        return response

    def stop(self, thread: str) -> int:
        return int(self.client.post(f"/ag-ui/stop/{thread}", content_type=JSON).status_code)

    def events(self, *messages: dict[str, Any], **also: Any) -> list[dict[str, Any]]:
        """The events that are there at once."""
        response = self.post(*messages, **also)
        assert response.status_code == 200, response.content
        return begun(response)

    def run(self, *messages: dict[str, Any], **also: Any) -> Run:
        """The run that the response streams."""
        return Run.objects.get(pk=self.events(*messages, **also)[0]["metadata"]["run"])

    def stored(self, thread: str = "t1") -> list[tuple[str, str]]:
        found = Message.objects.filter(conversation__client_id=thread)
        return [(one.role, one.content) for one in found]


def begun(response: HttpResponse) -> list[dict[str, Any]]:
    async def first(content: AsyncIterator[bytes]) -> bytes:
        return await anext(content)

    streamed = response.streaming_content if response.streaming else None
    # In a context of its own, otherwise the request's id would stay in this one.
    read = partial(copy_context().run, async_to_sync(first))
    frames = read(streamed) if streamed else response.content
    return [orjson.loads(one.removeprefix(b"data: ")) for one in frames.split(b"\n\n")[:-1]]


def user(id: str, text: str = "Hello") -> dict[str, Any]:
    return {"id": id, "role": "user", "content": text}


def reply(id: str, text: str = "Hi") -> dict[str, Any]:
    return {"id": id, "role": "assistant", "content": text}


def answered(run: Run, *parts: Any) -> None:
    """Let the run have ended with these parts."""
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    row = Message.objects.create(
        conversation=run.conversation,
        role="assistant",
        content=text,
        parts=[part_json(part) for part in parts],
        turn=run.message.turn,
        reply_to=run.message,
    )
    Run.objects.filter(pk=run.pk).update(
        status="completed", reply=row, attempt=1, finish_reason="stop", ended_at=timezone.now()
    )


def snapshots(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [one["messages"] for one in events if one["type"] == "MESSAGES_SNAPSHOT"]


def test_the_same_run_id_again_joins_the_run(page: Page) -> None:
    first = page.run(user("1"))
    assert first.client_id == "r1"
    events = page.events(user("1"), reply(f"{first.id}-0", "half"))
    assert events[0]["metadata"]["run"] == str(first.id)
    assert snapshots(events) == [[user("1")]]  # what is void is dropped
    answered(first, ReasoningPart(text="r"), TextPart(text="Hi"))
    events = page.events(user("1"))
    assert snapshots(events) == [
        [
            user("1"),
            {"id": f"{first.id}-0", "role": "reasoning", "content": "r"},
            reply(f"{first.id}-1"),
        ]
    ]
    assert [one["type"] for one in events[2:]] == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert events[-1]["outcome"] == {"type": "success"}
    assert Run.objects.count() == 1


def test_a_run_id_that_was_used_for_another_message_is_refused(page: Page) -> None:
    first = page.run(user("1"))
    for messages in ([user("1", "Other")], [user("1"), user("2")]):
        assert page.post(*messages).status_code == 409
    assert page.run() == first  # nothing is asked
    assert Run.objects.count() == 1


@pytest.mark.parametrize("messages", [[user("1")], [user("0"), user("1")]], ids=["new", "known"])
def test_equal_requests_at_once_begin_one_run(
    page: Page, monkeypatch: Any, messages: list[dict[str, Any]]
) -> None:
    if messages[1:]:
        page.run(*messages[:1], run="r0")
    page.client.get("/")  # both requests are of one visitor
    looking = [True]
    found = ag_ui_api._run if messages[1:] else ag_ui_api.conversation_named

    def late(*where: Any) -> Any:
        if looking:
            looking.clear()
            page.run(*messages)  # the other request, after this one has looked
            return None
        return found(*where)  # type: ignore[operator]

    monkeypatch.setattr(ag_ui_api, found.__name__, late)
    assert page.run(*messages) == Run.objects.get(client_id="r1")
    assert len(page.stored()) == len(messages)


def test_a_new_run_interrupts_the_one_that_is_live(page: Page) -> None:
    first = page.run(user("1"))
    second = page.run(user("1"), reply(f"{first.id}-0", "half"), user("2", "And?"), run="r2")
    assert Run.objects.get(pk=first.pk).status == Run.Status.CANCELLED
    assert second.status == Run.Status.QUEUED
    assert page.stored() == [("user", "Hello"), ("user", "And?")]


def test_a_new_run_of_the_same_message_replies_anew(page: Page) -> None:
    first = page.run(user("1"))
    answered(first, TextPart(text="Hi"))
    events = page.events(user("1"), reply(f"{first.id}-0"), run="r2")
    second = events[0]["metadata"]["run"]
    assert second != str(first.id)
    assert snapshots(events) == [[user("1")]]
    answered(Run.objects.get(pk=second), TextPart(text="Ho"))
    connected = page.events(to="/connect")
    assert connected[0]["runId"] == "r2"
    assert snapshots(connected) == [[user("1"), reply(f"{second}-0", "Ho")]]
    assert page.events(user("1"))[0]["metadata"]["run"] == str(first.id)


def test_a_client_that_has_the_thread_is_not_told_it(page: Page) -> None:
    first = page.run(user("1"))
    answered(first, TextPart(text="Hi"))
    whole, half = reply(f"{first.id}-0"), reply(f"{first.id}-0", "H")
    asked = user("2", "And?")
    events = page.events(user("1"), whole, asked, run="r2")
    assert [one["type"] for one in events] == ["RUN_STARTED"]
    second = events[0]["metadata"]["run"]
    answered(Run.objects.get(pk=second), TextPart(text="Then."))
    events = page.events(user("1"), half, asked, user("3"), run="r3")
    told = [user("1"), whole, asked, reply(f"{second}-0", "Then."), user("3")]
    assert snapshots(events)[-1] == told


def test_a_client_keeps_what_it_has_of_a_reply_that_is_not_stored_yet(
    page: Page, monkeypatch: Any
) -> None:
    first = page.run(user("1"))
    Run.objects.filter(pk=first.pk).update(status="running", attempt=1)  # a worker has it
    monkeypatch.setattr("streams.chat.ask.cancel_unheld", lambda run: None)
    half = reply(f"{first.id}-0", "half")
    events = page.events(user("1"), half, user("2"), run="r2")
    assert [one["type"] for one in events] == ["RUN_STARTED"]


def test_a_new_thread_takes_the_earlier_messages_over(page: Page) -> None:
    system = {"id": "0", "role": "developer", "content": "Be brief."}
    thought = {"id": "x", "role": "reasoning", "content": "Hm."}
    parts = [{"type": "text", "text": "Two"}, {"type": "text", "text": "?"}]
    asked = {"id": "2", "role": "user", "content": parts}
    run = page.run(system, user("1", "One?"), thought, reply("r", "One."), asked)
    prompt = [(one.role, one.content) for one in history(run)]
    assert prompt == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
    ]
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["0", "1", "r", "2"]


@pytest.mark.parametrize(
    "messages",
    [
        [user("1", "Changed"), user("3")],
        [user("0"), user("1"), user("3")],
        [user("1"), user("3")],  # lacks the second
        [user("1")],  # has been followed by another
        [user("9"), user("8"), user("3")],
    ],
)
def test_what_contradicts_the_stored_history_is_refused(
    page: Page, messages: list[dict[str, Any]]
) -> None:
    page.run(user("1"))
    page.run(user("1"), user("2", "Two"), run="r2")
    refused = page.post(*messages, run="r3")
    assert refused.status_code == 409
    assert refused.headers["Content-Type"].startswith("text/plain")
    assert page.stored() == [("user", "Hello"), ("user", "Two")]


@pytest.mark.parametrize("text", ["Hello", "Other"])
def test_an_old_message_alone_is_not_stored_twice(page: Page, text: str) -> None:
    for turn in range(1, 5):
        page.run(user(str(turn)), run=f"r{turn}")
    stored = page.stored()
    assert page.post(user("1", text), run="r9").status_code == 409
    assert page.stored() == stored


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (422, {"messages": []}),
        (422, {"messages": [reply("1")]}),
        (422, {"messages": [user("1"), reply("2")]}),  # what is to be replied to?
        (422, {"messages": [user("1", "  ")]}),
        (422, {"messages": [user("1", "a" * 200_001)]}),
        (422, {"messages": [user("")]}),
        (422, {"messages": [user("1" * 201)]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": None}]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": {"a": 1}}]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": [{"type": "image"}]}]}),
        (422, {"messages": [{"id": "1", "role": "judge", "content": "?"}]}),
        (422, {"messages": "Hello"}),
        (422, {"threadId": ""}),
        (422, {"runId": None}),
        (422, {"forwardedProps": ["a"]}),
        (422, {"forwardedProps": {"model": "gone"}}),
        (422, {"context": [{"description": "d", "value": "v" * 5000}]}),
        (400, {"tools": [{"name": "n", "description": "d"}]}),
        (400, {"resume": [{"interruptId": "i", "status": "resolved"}]}),
    ],
)
def test_what_cannot_be_asked_is_refused(page: Page, status: int, sent: dict[str, Any]) -> None:
    messages = sent.pop("messages", [user("1")])
    response = page.post(**{"messages": messages, **sent})
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/plain")
    assert not Conversation.objects.exists()


def test_a_name_that_is_no_text_is_cleaned(page: Page) -> None:
    run = page.run(user("\0\ud83d", "a\0"), thread="\0", run="\ud83d")
    assert (run.client_id, page.stored("\ufffd")) == ("\ufffd", [("user", "a\ufffd")])
    assert page.stop("%00") == 204


def test_the_page_tells_the_agent_and_chooses_the_model(page: Page, settings: Any) -> None:
    settings.LLM_MODELS = [settings.LLM_MODEL, "other"]
    context = [{"description": "d", "value": "v"}]
    run = page.run(
        user("1"), forwardedProps={"model": "other", "a": 1}, context=context, state={"s": None}
    )
    assert run.model == "other"
    told = {"model": "other", "a": 1, "context": context, "state": {"s": None}}
    assert run.metadata == told
    other = {"forwardedProps": {"model": settings.LLM_MODEL}}
    assert page.post(user("1"), user("2"), run="r2", **other).status_code == 409


def test_a_conversation_that_began_elsewhere_is_a_thread_by_its_id(page: Page) -> None:
    page.client.get("/")
    made = page.client.post("/api/conversations/", {"message": "Why?"}, content_type=JSON).json()
    events = page.events(thread=made["conversation"], to="/connect")
    assert (events[0]["threadId"], events[0]["runId"]) == (made["conversation"], made["run"])
    assert snapshots(events) == [[user(made["message"], "Why?")]]
    assert page.run(thread=made["conversation"], run=made["run"]).client_id is None
    second = page.run(user(made["message"], "Why?"), user("2"), thread=made["conversation"])
    assert str(second.conversation_id) == made["conversation"]


def test_a_thread_that_does_not_exist_connects_to_nothing(page: Page) -> None:
    assert page.events(user("1"), to="/connect") == [
        {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"},
        {
            "type": "RUN_FINISHED",
            "threadId": "t1",
            "runId": "r1",
            "outcome": {"type": "success"},
        },
    ]
    assert not Conversation.objects.exists()


def test_a_thread_whose_log_has_expired_is_told_from_its_rows(
    page: Page, valkey: redis.Redis
) -> None:
    run = page.run(user("1"))
    answered(run, TextPart(text="Hi"))
    valkey.flushdb()
    events = page.events(to="/connect")
    assert snapshots(events) == [[user("1"), reply(f"{run.id}-0")]]
    assert (events[-1]["type"], events[-1]["outcome"]) == ("RUN_FINISHED", {"type": "success"})


def test_a_stop_cancels_the_run(page: Page) -> None:
    run = page.run(user("1"), thread="a/b c")
    assert page.stop("a%2Fb%20c") == 204
    assert Run.objects.get(pk=run.pk).status == Run.Status.CANCELLED
    (event,) = page.events(thread="a/b c", to="/connect")[2:]
    assert (event["type"], event["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
    assert page.stop("a%2Fb%20c") == 204
    assert page.stop("gone") == 404


def test_a_long_thread_is_told_in_its_newest_pages(page: Page, monkeypatch: Any) -> None:
    monkeypatch.setattr("streams.chat.snapshot.PAGE_SIZE", 2)
    earlier = [user(str(n), f"{n}?") for n in range(6)]
    run = page.run(*earlier, user("last"))
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["0", "1", "2", "3", "4", "5", "last"]
    cancel(run.id)
    page.run(*earlier, user("last"), *[user(f"+{n}") for n in range(3)], run="r2")
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["2", "3", "4", "5", "last", "+0", "+1", "+2"]


def test_runs_and_streams_have_the_limits_of_the_other_wires(page: Page, settings: Any) -> None:
    settings.MAX_STREAMS = 0
    assert page.post(user("1")).status_code == 429
    assert not Run.objects.exists()
    settings.MAX_STREAMS = 1
    assert page.post(user("1")).status_code == 200
    for to in ("", "/connect"):
        assert page.post(user("1"), to=to).status_code == 429
    assert metrics.DIALECT_STREAMS.labels("ag-ui")._value.get() == 0  # none is read yet
    page.responses[1].close()
    settings.MAX_LIVE_RUNS = 1
    refused = page.post(user("1"), thread="t2")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert Run.objects.count() == 1


def test_a_session_needs_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/")
    page = Page(client)
    for to in ("", "/connect", "/stop/t1"):
        assert page.post(user("1"), to=to).status_code == 403
    assert not Run.objects.exists()
    client.defaults["HTTP_X_CSRFTOKEN"] = client.cookies["csrftoken"].value
    page.run(user("1"))
    page.close()


def test_only_the_owner_reaches_a_thread(settings: Any) -> None:
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    owner = Page(bearer(create_token(ada, "job", scopes="read write")))
    run = owner.run(user("1", "secret"))
    conversation = str(run.conversation_id)
    settings.ALLOW_ANONYMOUS = True
    visitor = Client()
    revoked = create_token(ada, "revoked", scopes="read write")
    ApiToken.objects.filter(name="revoked").update(revoked_at=timezone.now())
    strangers = [
        Page(bearer(create_token(bob, "job", scopes="read write"))),
        Page(visitor),
    ]
    for page in strangers:
        for thread in ("t1", conversation):
            events = page.events(thread=thread, to="/connect")
            absent = page.events(thread=f"x{thread}", to="/connect")
            assert [one["type"] for one in events] == [one["type"] for one in absent]
            assert page.stop(thread) == 404
            own = page.run(user("1"), thread=thread, run=str(run.id))
            assert own.conversation_id != run.conversation_id
    for refused in (Page(bearer(revoked)), Page(bearer("unknown"))):
        for to in ("", "/connect", "/stop/t1"):
            response = refused.post(user("2"), to=to, run="r2")
            assert (response.status_code, b"secret" in response.content) == (401, False)
    settings.ALLOW_ANONYMOUS = False
    for to in ("", "/connect", "/stop/t1"):
        assert Page().post(user("2"), to=to, run="r2").status_code == 401
    reading = Page(bearer(create_token(ada, "read", scopes="read")))
    assert reading.post(user("2"), run="r2").status_code == 403
    assert Message.objects.filter(conversation=run.conversation).count() == 1
    assert not Run.objects.get(pk=run.pk).cancel_asked
    for page in (owner, reading, *strangers):
        page.close()


def bearer(token: str) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"})


def test_the_export_has_the_names(page: Page) -> None:
    page.run(user("1"))
    rows = {row["kind"]: row for row in export_rows(Conversation.objects.get().owner)}
    assert (rows["conversation"]["dialect"], rows["conversation"]["client_id"]) == ("ag-ui", "t1")
    assert (rows["message"]["client_id"], rows["run"]["client_id"]) == ("1", "r1")


def test_the_names_of_a_deleted_thread_can_be_used_again(page: Page) -> None:
    first = page.run(user("1"))
    page.client.delete(f"/api/conversations/{first.conversation_id}/")
    assert len(page.events(to="/connect")) == 2
    assert page.run(user("1")) != first


def test_the_routes_are_those_of_the_setting(settings: Any) -> None:
    assert [one.prefix for one in served(["ag-ui"])] == ["/"]
    assert [one.prefix for one in served(["responses"])] == ["/v1/", "/v1/"]
