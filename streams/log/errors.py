"""The exceptions that the event log raises, and what the caller does about each."""


class LogUnavailable(Exception):
    """Redis does not answer, or refuses to write. The log's content is unknown. Retry later."""


class LogFull(LogUnavailable):
    """Redis has no memory left for this write. Retry later."""


class LogUnverified(LogUnavailable):
    """Redis restarted or failed over, so the newest events may be missing.

    The running attempt verifies the log within seconds. Retry after that.
    """


class LogCorrupted(LogUnavailable):
    """The keys of this one log hold data that the service did not write.

    Other logs are not affected. The log works again once an operator has deleted these keys.
    """


class ReplyChanged(LogUnavailable):
    """The log no longer holds the reply that `seal` returned, as after a new epoch. Seal again."""


class Superseded(Exception):
    """Another worker has the run, or the run has ended, or its conversation is deleted.

    Stop, and append nothing more.
    """


class FenceMissing(Exception):
    """The log has lost the run's fence, or some of its deltas.

    If the run's row still names this attempt, call `restore_fence` and continue.
    """
