"""`manage.py runserver`: daphne's development server, with an embedded worker.

It is for development: daphne stores a body of any size before the application runs, which then refuses it. The limits of
connections and headers are those of `serve` (`apflow_site.uvicorn_limits`).
"""

import atexit
from typing import Any

from daphne.management.commands.runserver import Command as DaphneRunserver

from apflow_site.embedded_worker import EmbeddedWorker
from apflow_site.prepare import prepare


class Command(DaphneRunserver):
    """Starts and stops the embedded worker here: daphne does not support ASGI's lifespan."""

    def inner_run(self, *args: Any, **options: Any) -> None:
        prepare()
        embedded = EmbeddedWorker()
        embedded.start()
        atexit.register(embedded.stop)
        # Takes the secrets out of the environment, from which the reloader starts this process.
        from apflow_site.asgi import answer_requests  # noqa: PLC0415

        answer_requests()
        super().inner_run(*args, **options)
