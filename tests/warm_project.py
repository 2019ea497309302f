"""The project, imported for all servers of one engine: what a fork server has ready when it forks them.

The settings that an operator chooses are those of each server. So no import may read one: a module whose import does is
left to the servers, and two libraries that read theirs when they are imported get them again in each server.
"""

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from functools import _lru_cache_wrapper
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.cheap_passwords import make_passwords_cheap

OURS: Final = frozenset({"a2a", "accounts", "aipartnerupflow", "apflow_site", "llmkeys", "tasks"})
PREFIX: Final = "AIPARTNERUPFLOW_"
SETTINGS: Final = "apflow_site.settings"
URLS: Final = {"sqlite": "sqlite:///{folder}/none.sqlite3", "postgresql": "postgresql://localhost/none"}
OF_EVERY_SERVER: Final = frozenset(
    {
        *(
            "DATABASES",
            "DATA_UPLOAD_MAX_NUMBER_FIELDS",
            "DEBUG",
            "DEFAULT_AUTO_FIELD",
            "INSTALLED_APPS",
            "LANGUAGE_CODE",
        ),
        *("REST_FRAMEWORK", "TIME_ZONE", "UNFOLD", "USE_TZ"),
    }
)
"""The settings that are the same for every server of an engine."""
READ_AGAIN: Final = frozenset({"Q_CLUSTER", "SIMPLE_JWT", "SECRET_KEY"})
"""Those of the two libraries."""
MODULES: Final = """
    apflow_site.edge.handler a2a.endpoints.consumers a2a.protocol.agent_card apflow_site.embedded_worker
    apflow_site.metrics apflow_site.prepare apflow_site.db.schema apflow_site.uvicorn_limits apflow_site.web_server
    apflow_site.urls apflow_site.admin_urls tasks.services.secrets.shared_secrets tasks.services.upkeep.examples
    a2a.rest.openapi tasks.events.hub
    django_q.cluster tasks.jobs tasks.queue.broker tasks.worker.process tasks.worker.supervisor aipartnerupflow.server
    aipartnerupflow.doctor accounts.users accounts.api_keys llmkeys.keys
    apflow_site.page_middleware apflow_site.static_files
    corsheaders.middleware csp.middleware django.contrib.auth.backends django.contrib.auth.middleware
    django.contrib.messages.middleware django.contrib.sessions.backends.db django.contrib.sessions.middleware
    django.contrib.staticfiles.storage django.core.cache.backends.locmem django.middleware.clickjacking
    django.middleware.gzip django.middleware.security
    tasks.executors.aggregate tasks.executors.approval tasks.executors.crewai.executor tasks.executors.echo
    tasks.executors.sleep tasks.executors.system_info tasks.executors.transform tasks.worker.killable_queue
    tasks.worker.lifeline
""".split()

LIBRARIES_OF_MODELS: Final = (
    *("litellm", "langgraph.graph", "langchain_core.language_models"),
    *(["crewai"] if importlib.util.find_spec("crewai") else []),  # Python 3.14 has none
)
"""What calls models. None of them starts a thread when it is imported."""


class ReadsSettings(Exception):
    """A module read a setting that servers may choose when it was imported."""


class SameEverywhere:
    """Django's settings, of which imports may read those of every server."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        if name not in OF_EVERY_SERVER | READ_AGAIN and hasattr(sys.modules[SETTINGS], name):
            raise ReadsSettings(name)
        return getattr(self._settings, name)


def import_project(engine: str, libraries: Sequence[str] = ()) -> None:
    """Import it, without settings of an operator, and these libraries."""
    from aipartnerupflow import bootstrap  # noqa: PLC0415  a process without the project does not need it

    bootstrap()
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    with TemporaryDirectory(prefix="apflow-") as folder:
        os.environ[f"{PREFIX}DATA_DIR"] = folder
        os.environ[f"{PREFIX}DATABASE_URL"] = URLS[engine].format(folder=folder)
        _import_all()
        _import_libraries(libraries, folder)
    _forget_settings()


def _import_all() -> None:
    import django  # noqa: PLC0415
    from django import conf  # noqa: PLC0415
    from django.apps import apps  # noqa: PLC0415

    settings: Any = conf.settings
    installed = settings.INSTALLED_APPS
    settings._wrapped = SameEverywhere(settings._wrapped)
    apps.populate(installed)
    for module in MODULES:
        import_module(module)
    make_passwords_cheap()
    django.setup = _with_libraries(django.setup)


def _import_libraries(libraries: Sequence[str], folder: str) -> None:
    """As `tasks.executors.llm.loading` does."""
    from tasks.executors.llm.loading import QUIET  # noqa: PLC0415

    os.environ.update(QUIET, CREWAI_STORAGE_DIR=folder)
    for library in libraries:
        import_module(library)


def _forget_settings() -> None:
    """Let each server read its own, and connect to its own database."""
    from django import conf, db  # noqa: PLC0415
    from django.utils.functional import empty  # noqa: PLC0415

    settings: Any = conf.settings
    connections: Any = db.connections
    settings._wrapped = empty
    del sys.modules[SETTINGS], sys.modules["apflow_site"].settings
    del connections["default"]
    connections._settings = None
    vars(connections).pop("settings")
    gc.unfreeze()  # else its objects are not listed
    for each in gc.get_objects():  # by type(): `isinstance` would ask Django's lazy objects, which read their settings
        if type(each) is _lru_cache_wrapper and each.__module__.partition(".")[0] in OURS:
            each.cache_clear()


def _with_libraries(set_up: Callable[..., None]) -> Callable[..., None]:
    def set_up_all(**options: Any) -> None:
        set_up(**options)
        _give_settings_to_libraries()

    return set_up_all


def _give_settings_to_libraries() -> None:
    from django.conf import settings  # noqa: PLC0415
    from django_q import conf  # noqa: PLC0415
    from rest_framework_simplejwt import tokens  # noqa: PLC0415
    from rest_framework_simplejwt.settings import DEFAULTS, api_settings  # noqa: PLC0415

    fresh: Any = importlib.util.module_from_spec(conf.__spec__)
    conf.__spec__.loader.exec_module(fresh)
    for name, value in vars(fresh.Conf).items():
        if name.isupper() or name == "conf":
            setattr(conf.Conf, name, value)
    api_settings.reload()
    api_settings._user_settings = settings.SIMPLE_JWT
    DEFAULTS["SIGNING_KEY"] = settings.SECRET_KEY
    tokens.AccessToken.lifetime = api_settings.ACCESS_TOKEN_LIFETIME
    tokens.RefreshToken.lifetime = api_settings.REFRESH_TOKEN_LIFETIME
