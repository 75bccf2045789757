"""How an attempt's reply can end, other than by an error of the model."""

from enum import StrEnum


class Outcome(StrEnum):
    """Why an attempt reads no more of its model. An error of the model is a `ModelError`."""

    FINISHED = "finished"
    LOST = "lost"  # another attempt has the run, it has ended, or this process ends
    TOO_LONG = "too long"  # RUN_TIMEOUT has passed
    TOO_LARGE = "too large"  # the reply exceeds MAX_REPLY_BYTES


# The code and the reason of a run that fails by such an outcome.
FAILURES = {
    Outcome.TOO_LONG: ("run_too_long", "The reply took too long and was ended."),
    Outcome.TOO_LARGE: ("reply_too_long", "The reply became too long and was ended."),
}
