"""The methods of JSON-RPC, one module for each noun. Importing a module declares its methods (`method.method`).

- A method is declared in one place; tables, documents, REST and the tools of MCP derive from it.
- A sync function only reads, on a thread where users take turns; an async one writes through `pools.write`.
- Unknown parameters are refused by name, and nothing is stored.

Never: rules of tasks (those are in `tasks.rules`), or a query beside a service of `tasks.services`.
"""

from collections.abc import Mapping
from typing import Final

from a2a.methods import (  # noqa: F401  they declare their methods
    audit,
    cache,
    crud,
    datasets,
    evals,
    events,
    execute,
    files,
    flows,
    generate,
    home,
    hooks,
    judges,
    labels,
    limits,
    llm_keys,
    notifications,
    queries,
    questions,
    running,
    runs,
    scheduled,
    schedules,
    secrets,
    system,
    usage,
    webhooks,
)
from a2a.methods.method import SYSTEM, TASKS, Method, declared

METHODS: Final[Mapping[str, Method]] = declared(TASKS)
"""The methods of `POST /tasks`, and of `POST /` with A2A objects as results."""
SYSTEM_METHODS: Final[Mapping[str, Method]] = declared(SYSTEM)
"""The methods of `POST /system`."""
