"""Why a message, or another reply, is refused."""


class ConversationBusy(Exception):
    """The conversation has an active run, and `when_busy` is "reject"."""


class NotLastTurn(Exception):
    """Only the last turn can be retried, because later turns build on the replies before them."""


class UnknownModel(Exception):
    """The name is neither in LLM_MODELS nor in AGENTS, or is no longer."""
