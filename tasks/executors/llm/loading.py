"""litellm and crewai, imported when a worker's first task needs them, and in no other process.

They take seconds and hundreds of megabytes, which nobody should pay who does not use them. The import runs on a thread, so that the event loop
goes on renewing leases meanwhile, and under one lock: crewai finishes loading at its first use, in a way that two threads at once break.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.utils.module_loading import import_string

#: Read by the libraries while they are imported: they call nobody, look for no `.env` file, and take their table of prices from the package.
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


async def load(path: str) -> Any:
    """What the dotted path names, in a module of ours that imports one of the libraries."""
    module, _, name = path.rpartition(".")
    loaded = getattr(sys.modules.get(module), name, None)  # it is defined below the imports of its module
    return await asyncio.to_thread(_import, path) if loaded is None else loaded


def _import(path: str) -> Any:
    with _lock:
        os.environ.update(QUIET, **_folders())
        return import_string(path)


def _folders() -> Mapping[str, str]:
    """Where CrewAI makes folders while it is imported: in our data folder; and where this process has no home, as a service may, also that."""
    folder = settings.DATA_DIR / "crewai"
    folder.mkdir(parents=True, exist_ok=True)
    has_home = os.access(os.path.expanduser("~"), os.W_OK)  # noqa: PTH111  (Path.home() raises where there is none)
    return {"CREWAI_STORAGE_DIR": str(folder)} | ({} if has_home else {"HOME": str(folder)})
