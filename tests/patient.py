"""Gives more time where the product has a limit of a few seconds. Each server of the tests loads it as a module of executors.

No test is about these limits as they are, and on a busy machine a process may stand still for that long.
"""

import sys
from importlib import import_module

LIMITS = {
    "a2a.endpoints.views.READY_SECONDS": 60.0,
    "a2a.methods.scheduled.WAIT_SECONDS": 100.0,
    "apflow_site.db.calls.PROBE_SECONDS": 60.0,
    "apflow_site.metrics.DATABASE_SECONDS": 60.0,
    "tasks.executors.crewai.running.STOP_SECONDS": 10.0,
    "tasks.executors.command.guarded_process.LAST_SECONDS": 8.0,
    "tasks.executors.mcp.session.CANCEL_SECONDS": 8.0,
    "tasks.pools.line.STOP_SECONDS": 11.0,
    "tasks.pools.thread.STOP_SECONDS": 11.0,
    "tasks.services.runs.cancels.ANSWER_SECONDS": 50.0,
    "tasks.services.upkeep.readiness.NOTIFY_SECONDS": 60.0,
    "tasks.services.history.run_search.SECONDS": 50.0,
    "tasks.worker.attempt.STOP_SECONDS": 12.0,
    "tasks.worker.engine.STOP_SECONDS": 12.0,
}

# These two are loaded later otherwise.
if "a2a.methods.scheduled" in sys.modules:
    import_module("a2a.endpoints.views")
if "tasks.executors.mcp.session" in sys.modules:
    import_module("tasks.executors.crewai.running")
for path, seconds in LIMITS.items():
    module, _, limit = path.rpartition(".")
    if module in sys.modules:  # each process has its own part of the product
        assert hasattr(sys.modules[module], limit), path
        setattr(sys.modules[module], limit, seconds)
