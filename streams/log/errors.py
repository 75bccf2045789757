"""Why the log did not do what it was asked to."""


class LogUnavailable(Exception):
    """Redis does not answer, or refuses to write: nothing is known. Try again later."""


class LogFull(LogUnavailable):
    """Redis has no memory left for what is to be written."""


class LogUnverified(LogUnavailable):
    """The log may have lost its tail: a run's attempt says within seconds how far it had come."""


class LogCorrupted(LogUnavailable):
    """What this one log holds is not what was written: the others are well."""


class Superseded(Exception):
    """Another worker has this run, or it has ended: stop, and say nothing."""


class FenceMissing(Exception):
    """The log has lost this run's fence: ask the run's row whose it is, then `fence` and go on."""


REFUSALS: dict[str, type[Exception]] = {  # as log.lua says them
    "superseded": Superseded,
    "gone": Superseded,
    "missing": FenceMissing,
    "gap": FenceMissing,
    "doubtful": LogUnverified,
    "spoilt": LogCorrupted,
}
