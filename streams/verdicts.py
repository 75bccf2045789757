"""Why the log did not do what it was asked to."""


class Away(Exception):
    """Redis does not answer, or refuses to write: nothing is known. Try again later."""


class Doubtful(Away):
    """The log may have lost its tail, and only a run's attempt knows: it says so within seconds."""


class Superseded(Exception):
    """Another worker has this run, or it has ended: stop, and say nothing."""


class Unfenced(Exception):
    """The log has lost this run's fence: ask the run's row whose it is, then `fence` and go on."""
