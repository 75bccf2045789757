"""All guards, by the package of the production code that has them: docs/proofs.md lists them so."""

from tests.integration.support.guards import (
    chat,
    delivery,
    dialects,
    log,
    log_epochs,
    server,
    workers,
)

GUARDS = [
    *delivery.GUARDS,
    *log.GUARDS,
    *log_epochs.GUARDS,
    *chat.GUARDS,
    *workers.GUARDS,
    *dialects.GUARDS,
    *server.GUARDS,
]
