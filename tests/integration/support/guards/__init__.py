"""All guards, in the order of docs/proofs.md: by the package that has them."""

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
