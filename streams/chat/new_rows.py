"""The inserts of every POST and every reply."""

from streams.compiled_query import CompiledInsert
from streams.models import Conversation, Message, Run

CONVERSATIONS = CompiledInsert(Conversation)
MESSAGES = CompiledInsert(Message)
RUNS = CompiledInsert(Run)
