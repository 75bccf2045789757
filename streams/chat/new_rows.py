"""The compiled inserts for the rows that POSTs and replies create."""

from streams.compiled_query import CompiledInsert
from streams.models import Conversation, Message, Run

CONVERSATIONS = CompiledInsert(Conversation)
MESSAGES = CompiledInsert(Message)
RUNS = CompiledInsert(Run)
