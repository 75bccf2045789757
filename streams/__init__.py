"""The Django app of Unspool: conversations, their event log, and delivery to readers."""
