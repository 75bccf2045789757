"""The events in the log of a reply whose text waits in the delta window."""

from streams.log.channels import channel_of
from streams.log.event_log import log_of, the_log
from streams.log.values import Page
from streams.models import Run
from streams.protocol.events import PartAdded, Piece, TextSnapshot
from streams.protocol.parts import Part
from streams.protocol.sse import decode
from tests.integration.support.stepped_reply import SteppedReply
from tests.support.fold import ConversationState, fold
from workers.delta_window import TICKS

WINDOW = 0.02
LATEST = WINDOW + WINDOW / TICKS + 0.0001  # seconds that a piece may wait


def events(run: Run) -> list[Piece | TextSnapshot]:
    """The events of the run's pieces in the log."""
    read = [decode(type, data) for type, data in entries(run)]
    return [event for event in read if isinstance(event, Piece | TextSnapshot)]


def entries(run: Run) -> list[tuple[str, str]]:
    """The type and data of all events in the log of the run's conversation."""
    read, last = list[tuple[int, str, str]](), False
    while not last:
        page = log_of(run.conversation_id).read_after(read[-1][0] if read else first_id(run))
        assert isinstance(page, Page)
        read += page.entries
        last = page.last
    return [(type, data) for _, type, data in read]


def first_id(run: Run) -> int:
    """The cursor before all events of the log's epoch."""
    state = f"{{{channel_of(run.conversation_id)}}}:state"
    return int(the_log()._servers.command(0, "HGET", state, "epoch_start")) - 1


def heard(reply: SteppedReply) -> list[str]:
    """Make the trip, and return the text or the type of each of the reply's events in the log."""
    reply.trip()
    said = list[str]()
    for number, event in enumerate(events(reply.run)):
        assert event.index == number
        said.append(event.type if isinstance(event, PartAdded) else event.text)
    return said


def folded(run: Run) -> tuple[Part, ...]:
    """The parts that a reader of the whole log has."""
    known = ConversationState()
    for type, data in entries(run):
        known = fold(known, decode(type, data))
    return known.replies[run.id].parts
