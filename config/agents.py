"""The agents process: `python -m config.agents` writes the replies of the agents in AGENTS.

It is a Celery worker with its own queue. So an agent that blocks the event loop or ignores its
cancellation does not delay the replies of models. Only this process imports the agents. It exits at
its start if a path cannot be imported, or if the object there is not an agent.
"""

import gc
import os
import sys

import django
from django.conf import settings

from config.celery import app
from config.dev.idle import idle
from streams.chat.model_names import Kind, queue_of


def main() -> None:
    """Take runs until SIGTERM. Sleeps if the settings name no agent."""
    if not settings.AGENTS:
        idle("The agents process", "AGENTS names no agent")
    gc.disable()  # config.celery enables it again once all modules are imported
    django.setup()
    # Imported here, because its models need Django set up.
    from workers.agent_replies import load_agents
    from workers.agents.errors import AgentMisconfigured

    try:
        load_agents()
    except AgentMisconfigured as error:
        sys.exit(str(error))
    app.worker_main(
        [
            *("-A", "config.celery", "--quiet", "worker", "--hostname", "agents@%h"),
            *("--queues", queue_of(Kind.AGENT)),
            *("--concurrency", str(settings.AGENT_CONCURRENCY)),
            *("--without-mingle", "--without-gossip", "--without-heartbeat"),
        ]
    )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
