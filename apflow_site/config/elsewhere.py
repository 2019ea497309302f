"""The environment of code of the operator's that runs elsewhere, on Ray nodes and in processes: no secret is in it."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, Final
from urllib.parse import urlsplit

from apflow_site.config.known import PREFIX, known_settings, variables
from apflow_site.config.sections import Config
from apflow_site.databases import is_postgresql

SHARED: Final = (
    "executors.modules",
    "executors.command.allow",
    "executors.command.allow_anyway",
    "executors.command.folders",
    "executors.command.readable",
    "executors.command.timeout_seconds",
    "executors.crewai.tools",
    "executors.crewai.crews",
    "executors.crewai.max_crews",
    "executors.llm.tools",
    "executors.langgraph.graphs",
    "executors.langgraph.langsmith",
    "executors.rest.allow_private",
    "executors.rest.allowed_ports",
    "llm.default_model",
    "llm.demo",
    "limits.result_bytes",
    "limits.nesting",
    "log.format",
    "log.level",
)

OF_TASKS: Final = ("executors.", "llm.", "limits.", "log.")
"""The sections whose settings processes of tasks need."""
NO_SECRETS_VARIABLE: Final = "APFLOW_INTERNAL_NO_SECRETS"
"""The variable of a process that generates no secrets in the data folder, and reads none there."""
INHERITED: Final = tuple(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TMPDIR TMP TEMP XDG_* LD_LIBRARY_PATH VIRTUAL_ENV PYTHON*
    DJANGO_SETTINGS_MODULE SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NO_PROXY no_proxy MALLOC_* OMP_*
    CUDA_* NVIDIA_* PROMETHEUS_MULTIPROC_DIR APFLOW_INTERNAL_CLUSTER_ID
    """.split()
)
OF_LANGSMITH: Final = ("LANGSMITH_*", "LANGCHAIN_*")


def for_processes(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes of pools: what Python needs, settings, and what the operator lists."""
    named = config.pools.process.environment
    patterns = (*INHERITED, *named, *(OF_LANGSMITH if config.executors.langgraph.langsmith else ()))
    keys = [key for key, each in known_settings().items() if key.startswith(OF_TASKS) and not each.is_secret]
    keys.remove("llm.key_store")  # only the server reads keys
    keys.remove("limits.shared")  # only workers let tasks start
    ours = {name for key in keys for name in variables(key)}
    return {
        NO_SECRETS_VARIABLE: "1",
        variables("server.data_dir")[0]: config.server.data_dir,
        variables("database.url")[0]: _without_password(config.database.url),
        variables("server.debuggers")[0]: _text(config.server.debuggers),
        **_values(config, keys),
        **{name: value for name, value in environ.items() if name in ours or name in named},
        **{
            name: value
            for name, value in environ.items()
            if not name.startswith(PREFIX) and any(fnmatchcase(name, each) for each in patterns)
        },
    }


def _without_password(database_url: str) -> str:
    if not is_postgresql(database_url):
        return database_url
    url = urlsplit(database_url)
    user, at, host = url.netloc.rpartition("@")
    return url._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query="").geturl()


def for_ray_nodes(config: Config) -> dict[str, str]:
    """Return the variables. A node has everything else in its own environment."""
    return _values(config, SHARED)


def _values(config: Config, keys: Iterable[str]) -> dict[str, str]:
    values = {key: attrgetter(key)(config) for key in keys}
    return {variables(key)[-1]: _text(value) for key, value in values.items() if value not in (None, ())}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
