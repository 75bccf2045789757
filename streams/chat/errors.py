"""The exceptions that refuse a message or a retry."""


class ConversationBusy(Exception):
    """The conversation has an active run, and `when_busy` is "reject"."""


class NotLastTurn(Exception):
    """Only the last turn can be retried, because later turns build on the replies before them."""


class UnknownModel(Exception):
    """The name is not, or no longer, in LLM_MODELS or AGENTS."""
