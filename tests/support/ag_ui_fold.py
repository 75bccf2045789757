"""The fold of AG-UI's client, for tests: how `@ag-ui/client` 1.0 folds a run's events.

It does what `verify` and `defaultApplyEvents` of that package do, for the few events that this
service sends. An event that the client would refuse raises `AssertionError`.
"""

from __future__ import annotations

from typing import Any

import orjson

Message = dict[str, Any]


class AgUiClient:
    """The messages of one client, over any number of connections."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.connect()

    def connect(self) -> None:
        """Begin another connection."""
        self.first = True
        self.ended = False
        self.open: set[tuple[str, str]] = set()

    @property
    def sent(self) -> list[Message]:
        """The messages in its requests."""
        return [one for one in self.messages if one["role"] != "activity"]

    def take(self, frame: bytes) -> None:
        """Take one whole frame."""
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        event = orjson.loads(frame.removeprefix(b"data: "))
        assert None not in event.values()
        assert not self.ended
        assert self.first == (event["type"] == "RUN_STARTED")
        self.first = False
        self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        kind, id = event["type"], event.get("messageId", event.get("toolCallId", ""))
        opened = kind.removesuffix("_START"), id
        if kind.endswith("_START"):
            assert opened not in self.open
            self.open.add(opened)
        if kind.endswith(("_CONTENT", "_ARGS", "_END")):
            opened = kind.rpartition("_")[0], id
            assert opened in self.open
        if kind.endswith("_END"):
            self.open.remove(opened)
        match kind:
            case "TEXT_MESSAGE_START" if not self._find(id):
                self.messages.append({"id": id, "role": event["role"], "content": ""})
            case "REASONING_MESSAGE_START" if not self._find(id):
                self.messages.append({"id": id, "role": "reasoning", "content": ""})
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                assert event["delta"]
                message = self._find(id)
                assert message
                assert message["role"] != "activity"
                message["content"] += event["delta"]
            case "TOOL_CALL_START":
                function = {"name": event["toolCallName"], "arguments": ""}
                call = {"id": id, "type": "function", "function": function}
                assert not self._find(event["parentMessageId"])
                message = {"id": event["parentMessageId"], "role": "assistant", "toolCalls": [call]}
                self.messages.append(message)
            case "TOOL_CALL_ARGS":
                calls = self.messages[self._owner(id)]["toolCalls"]
                calls[0]["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                self._take_result(event)
            case "ACTIVITY_SNAPSHOT":
                self._take_activity(event)
            case "MESSAGES_SNAPSHOT":
                self._take_snapshot(event)
            case "RUN_FINISHED" | "RUN_ERROR":
                assert kind == "RUN_ERROR" or not self.open
                self.ended = True

    def _find(self, id: str) -> Message | None:
        return next((one for one in self.messages if one["id"] == id), None)

    def _owner(self, call: str) -> int:
        """The index of the message with this call, or -1 if there is none."""
        owners = [
            place
            for place, one in enumerate(self.messages)
            if any(made["id"] == call for made in one.get("toolCalls", ()))
        ]
        return owners[0] if owners else -1

    def _take_result(self, event: dict[str, Any]) -> None:
        names = ("toolCallId", "role", "content", "metadata")
        given = {name: event[name] for name in names if name in event}
        message = {"id": event["messageId"], **given}
        place = self._owner(event["toolCallId"])
        if place < 0:
            self.messages.append(message)
            return
        place += 1
        while place < len(self.messages) and self.messages[place]["role"] == "tool":
            place += 1
        self.messages.insert(place, message)

    def _take_activity(self, event: dict[str, Any]) -> None:
        content = {name: event[name] for name in ("activityType", "content")}
        message = {"id": event["messageId"], "role": "activity", **content}
        if found := self._find(event["messageId"]):
            self.messages[self.messages.index(found)] = message
        else:
            self.messages.append(message)

    def _take_snapshot(self, event: dict[str, Any]) -> None:
        given = {one["id"]: one for one in event["messages"]}
        owned = event["metadata"]["@ag-ui/client"]["authoritativeActivityTypes"]
        has_reasoning = any(one["role"] == "reasoning" for one in event["messages"])

        def stays(one: Message) -> bool:
            if one["role"] == "activity":
                return one["activityType"] not in owned
            return one["role"] == "reasoning" and not has_reasoning

        left = [one for one in self.messages if one["id"] in given or stays(one)]
        self.messages = [given.get(one["id"], one) for one in left]
        there = {one["id"] for one in self.messages}
        self.messages += [one for one in event["messages"] if one["id"] not in there]
