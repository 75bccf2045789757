"""How an attempt's reply can end."""

from enum import StrEnum

from workers.agents.errors import AgentError
from workers.generators.errors import ModelError


class Outcome(StrEnum):
    """Why an attempt stopped reading its reply, if not because of an error."""

    FINISHED = "finished"
    LOST = "lost"  # another attempt has the run, it has ended, or this process ends
    TOO_LONG = "too long"  # RUN_TIMEOUT has passed
    TOO_LARGE = "too large"  # the reply exceeds MAX_REPLY_BYTES


# The code and the reason of a run that fails with such an outcome.
FAILURES = {
    Outcome.TOO_LONG: ("run_too_long", "The reply took too long and was ended."),
    Outcome.TOO_LARGE: ("reply_too_long", "The reply became too long and was ended."),
}
# An error of the model or the agent has its own code and reason.
End = Outcome | ModelError | AgentError
