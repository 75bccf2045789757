"""A conversation at a terminal: what is asked, what is heard, and who is to show it."""

from collections.abc import Callable
from contextlib import closing
from threading import Thread
from typing import Protocol
from uuid import UUID

from streams.cli.backoff import Unreachable
from streams.cli.client import Client, Outcome, Refused
from streams.cli.listening import Listening
from streams.protocol.events import (
    Event,
    MessageCreated,
    MessageView,
    RunCancelled,
    RunCompleted,
    RunFailed,
    Snapshot,
)
from streams.protocol.fold import ConversationState, Reply, fold

HISTORY = 6  # messages that are shown of a conversation that is gone on with


class Stage(Protocol):
    """Where a conversation is shown; a context that is open while something is waited for."""

    def message(self, message: MessageView) -> None:
        """A turn that is finished."""

    def writing(self, reply: Reply | None) -> None:
        """The reply that is being written, as far as it is; None where there is none."""

    def over(self, outcome: Outcome) -> None:
        """A reply has ended. It may never have been shown, or not up to here."""

    def tell(self, words: str) -> None:
        """How the connection is. Called from any thread."""

    def __enter__(self) -> None: ...

    def __exit__(self, *how: object) -> None: ...


class Talk:
    """Goes on with `conversation`, or begins one. `alone`: shows only what was asked here."""

    def __init__(
        self,
        client: Client,
        stage: Stage,
        *,
        conversation: UUID | None = None,
        system: str | None = None,
        model: str | None = None,
        alone: bool = False,
    ) -> None:
        self.conversation = conversation
        self._client = client
        self._stage = stage
        self._system, self._model = system, model
        self._alone = alone
        self._listening: Listening | None = None
        self._heard = ConversationState()
        self._told: set[UUID] = set()  # messages that were shown, or typed here
        self._mine: UUID | None = None  # the run that was asked for here last
        self._outcomes: dict[UUID, Outcome] = {}
        self._stopping = False

    def ask(self, text: str) -> Outcome:
        """Ask, and show the reply until it has ended. Raises `Refused`, `Unreachable`."""
        self._stopping, self._mine = False, None
        with self._stage:
            if self.conversation is None:
                accepted = self._client.begin(text, system=self._system, model=self._model)
                self._listen(accepted.conversation, accepted.cursor)
            else:
                accepted = self._client.say(self.conversation, text)
                self._listen(self.conversation, None)
            run = self._mine = accepted.run
            if self._stopping:
                self.stop()  # said before there was anything to stop
            self._told.add(accepted.message)
            while run not in self._outcomes:
                self._hear(lambda: run in self._outcomes)
                self._over(run)
        return self._outcomes[run]

    def join(self, conversation: UUID) -> None:
        """Show a conversation, and what is being written in it until that is over."""
        self._stopping, self._mine = False, None
        with self._stage:
            self._listen(conversation, None)
            self._hear(lambda: self._live() is None)

    def watch(self, conversation: UUID) -> None:
        """Show a conversation for as long as it can be heard."""
        with self._stage:
            self._listen(conversation, None, until_idle=False)
            self._hear(lambda: False)

    def stop(self) -> None:
        """Have the reply stopped, if need be as soon as it is asked for. May interrupt the rest."""
        self._stopping = True
        live = self._live()
        run = self._mine or (live and live.run)
        if run:
            Thread(target=self._cancel, args=[run], daemon=True).start()

    def _cancel(self, run: UUID) -> None:
        self._stage.tell("stopping…")
        try:
            self._client.cancel(run)
        except (Refused, Unreachable) as error:
            self._stage.tell(str(error))

    def _listen(self, conversation: UUID, cursor: int | None, *, until_idle: bool = True) -> None:
        # One who listened goes on from his own cursor: what others said meanwhile comes first.
        self.conversation = conversation
        if self._listening is None:
            self._listening = Listening(
                client=self._client,
                conversation=conversation,
                cursor=cursor,
                until_idle=until_idle,
            )

    def _hear(self, enough: Callable[[], bool]) -> None:
        assert self._listening
        with closing(self._listening.events()) as events:
            for event in events:
                self._take(event)
                if enough():
                    return

    def _take(self, event: Event | Snapshot) -> None:
        before = self._heard
        self._heard = fold(before, event)
        match event:
            case Snapshot():
                self._catch_up(before, event)
            case MessageCreated():
                self._message(event.message)
            case RunCompleted() | RunCancelled() | RunFailed():
                self._over(event.run)
        live = self._live()
        self._stage.writing(live if live and self._shown(live.run) else None)

    def _catch_up(self, before: ConversationState, now: Snapshot) -> None:
        """Show what ended and what was said while nothing was heard."""
        waited = {run for run, reply in before.replies.items() if not reply.ending}
        waited |= {self._mine} if self._mine else set()
        for run in waited - {live.id for live in now.runs}:
            self._over(run)
        new = [message for message in now.messages if message.id not in self._told]
        for message in new if self._told else new[-HISTORY:]:
            self._message(message)
        self._told |= {message.id for message in new}

    def _live(self) -> Reply | None:
        """The reply that is being written, or will be next."""
        return next((r for r in self._heard.replies.values() if r.ending is None), None)

    def _shown(self, run: UUID) -> bool:
        return not self._alone or run == self._mine

    def _message(self, message: MessageView) -> None:
        if message.id not in self._told and not self._alone:
            self._stage.message(message)
        self._told.add(message.id)

    def _over(self, run: UUID) -> None:
        outcome = None if run in self._outcomes else self._client.outcome(run)
        if outcome is None:
            return  # it was told already; or it goes on, and nobody has said so yet
        self._outcomes[run] = outcome
        if outcome.reply:
            self._told.add(outcome.reply)
        if self._shown(run):
            self._stage.over(outcome)
