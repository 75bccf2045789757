"""Errors that end an agent's reply: each has a stable code, and a sentence for readers."""

from typing import Literal

Code = Literal[
    "agent_error",
    "part_too_large",
    "too_many_parts",
    "too_many_tool_calls",
    "reply_too_long",
    "tool_silent",
    "model_silent",
]
REASONS: dict[Code, str] = {
    "agent_error": "The agent had an error of its own.",
    "part_too_large": "A part of the reply became too large.",
    "too_many_parts": "The reply came to have too many parts.",
    "too_many_tool_calls": "The agent called tools too often.",
    "reply_too_long": "The reply became too long and was ended.",
    "tool_silent": "A tool has fallen silent.",
    "model_silent": "The model has fallen silent.",
}


class AgentError(Exception):
    """The agent's reply broke a rule or a limit: end the run with `code` and `reason`.

    Neither contains text of the agent.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code: Code = code
        self.reason = REASONS[code]


class AgentMisconfigured(Exception):
    """AGENTS names something that is not an agent. The text tells the operator what it is."""
