"""The body of AG-UI's requests, `RunAgentInput`."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from streams.api.schemas import Metadata, StoredJson
from streams.dialects.ag_ui_messages import Message
from streams.dialects.history import ROLES, check_ids, contradiction
from streams.dialects.text_input import LAST, ONLY_TEXT, Name, checked, no_tools
from streams.http.problems import Problem
from streams.models import Run
from streams.protocol.sse import clean

NO_RESUME = Problem(
    400, "resume_not_taken", "No run of this service waits for an answer. Send no `resume`."
)
NO_USER = Problem(422, "invalid_request", "There is no message of the user.")


class AgUiPart(BaseModel):
    """A part of a message's content; only text is accepted."""

    type: str
    text: str = ""


class AgUiFunction(BaseModel):
    name: str
    arguments: str


class AgUiToolCall(BaseModel):
    id: str
    function: AgUiFunction


class AgUiMessage(BaseModel):
    """A message as the client holds it."""

    id: Name
    role: Literal["developer", "system", "user", "assistant", "tool", "reasoning", "activity"]
    content: str | list[AgUiPart] | dict[str, Any] | None = None
    toolCalls: list[AgUiToolCall] = Field(default=[])  # noqa: N815  # the vendor's name

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return clean("".join(part.text for part in self.content if part.type == "text"))
        return clean(self.content) if isinstance(self.content, str) else ""

    def require_text(self) -> None:
        """Raise `Problem` if a message of the user or system has anything except text."""
        parts = self.content if isinstance(self.content, list) else []
        is_text = isinstance(self.content, str | list) and all(one.type == "text" for one in parts)
        if self.role in ("user", "system", "developer") and not is_text:
            raise ONLY_TEXT

    @property
    def told(self) -> tuple[Any, ...]:
        """The fields to compare with a message that this service sends, without a user's text."""
        calls = [(one.id, one.function.name, one.function.arguments) for one in self.toolCalls]
        text = "" if self.role == "user" else self.text
        return self.id, ROLES.get(self.role, self.role), text, calls


class AgUiRequest(BaseModel):
    """The body of `POST /ag-ui` and `POST /ag-ui/connect`. Other fields are ignored."""

    threadId: Name  # noqa: N815  # the vendor's names
    runId: Name  # noqa: N815
    messages: list[AgUiMessage] = Field(default=[])
    tools: list[Any] = Field(default=[])
    context: StoredJson = None
    state: StoredJson = None
    forwardedProps: Metadata = None  # noqa: N815
    resume: list[Any] | None = None

    @property
    def model(self) -> str | None:
        """The name of a model or agent, if the page gives one."""
        name = (self.forwardedProps or {}).get("model")
        return name if isinstance(name, str) else None

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The data that the page sends for the agent; None if there is none."""
        told = {name: value for name in ("context", "state") if (value := getattr(self, name))}
        return {**(self.forwardedProps or {}), **told} or None

    @property
    def history(self) -> list[AgUiMessage]:
        """The messages up to the user's last one, which is included; later ones are no history."""
        places = [place for place, one in enumerate(self.messages) if one.role == "user"]
        return self.messages[: places[-1] + 1] if places else []

    @property
    def had(self) -> list[Message]:
        """The client's messages, as `snapshots` compares them."""
        return [
            {"id": one.id, "role": one.role, "content": one.text, "toolCalls": one.toolCalls}
            for one in self.messages
        ]

    def check(self) -> str:
        """Return the text of the question. Raises `Problem`."""
        no_tools(*self.tools)
        if self.resume:
            raise NO_RESUME
        for message in self.messages:
            message.require_text()
        check_ids(self.messages)
        if not self.history:
            raise NO_USER
        return checked(self.history[-1].text)

    def check_last(self) -> None:
        """Raise `Problem` if a reply follows the user's last message, because none is stored."""
        if any(one.role in ("assistant", "tool") for one in self.messages[len(self.history) :]):
            raise LAST

    def check_same(self, run: Run) -> None:
        """Raise `Problem` if the run of this name answers a different message."""
        question = run.message
        name = question.client_id or str(question.id)
        sent = self.history[-1:]
        if any((one.id, one.text) != (name, question.content) for one in sent):
            raise contradiction("This runId was used for another message.")

    def shows(self, messages: Sequence[Message]) -> bool:
        """Whether the client has exactly these messages, apart from activities."""
        expected = [AgUiMessage.model_validate(one).told for one in messages]
        return [one.told for one in self.messages if one.role != "activity"] == [
            one for one in expected if one[1] != "activity"
        ]
