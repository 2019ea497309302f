"""Import what needs an extra when a worker's first task needs it, and in no other process.

LiteLLM and CrewAI take seconds and hundreds of megabytes, and a server without an extra still describes its executors. The import runs on a thread, so that the event loop can
still renew leases, and under a lock: crewai finishes loading at its first use, in a way that is not
thread-safe.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings
from django.utils.module_loading import import_string

#: Read by the libraries at import: no telemetry, no `.env` file, and the table of prices from the
#: package.
QUIET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_TRACKING": "true",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "PYTHON_DOTENV_DISABLED": "1",
    }
)
_lock: Final = threading.Lock()
TABLE: Final = "model_prices_and_context_window_backup.json"
"""LiteLLM's table of models, with their prices and abilities: it costs seconds to load with the whole of LiteLLM."""


async def load(path: str) -> Any:
    """Import a module of ours that needs one of the libraries; return what the path names."""
    module, _, name = path.rpartition(".")
    loaded = getattr(sys.modules.get(module), name, None)  # defined only after the imports of its module
    return await asyncio.to_thread(load_now, path) if loaded is None else loaded


def load_now(path: str) -> Any:
    """Do what `load` does, and block meanwhile."""
    with _lock:
        os.environ.update(QUIET, **_folders())
        return import_string(path)


def _folders() -> Mapping[str, str]:
    """Return variables that make CrewAI create its folders, at import, in our data folder.

    If this process has no writable home, as a service may, HOME is set to that folder too.
    """
    folder = settings.DATA_DIR / "crewai"
    folder.mkdir(parents=True, exist_ok=True)
    has_home = os.access(os.path.expanduser("~"), os.W_OK)  # noqa: PTH111  (Path.home() raises where there is none)
    return {"CREWAI_STORAGE_DIR": str(folder)} | ({} if has_home else {"HOME": str(folder)})


@cache
def model_table() -> Mapping[str, Any]:
    """Return LiteLLM's table of models, read from its file without importing LiteLLM; empty without LiteLLM."""
    found = find_spec("litellm")
    if found is None or not found.origin:
        return {}
    table: Mapping[str, Any] = orjson.loads(Path(found.origin).with_name(TABLE).read_bytes())
    return table
