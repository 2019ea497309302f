"""The configuration of the server and its workers.

Flags override environment variables, which override the file, which overrides the defaults. The command line passes
flags on as environment variables before Django starts, so that all child processes have the same configuration.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

from apflow_site.config.faults import ConfigError, contradictions, faults_of, unknown_variables
from apflow_site.config.known import FILE_VARIABLE, PREFIX, SHORT_VARIABLES, known_settings, secret_variables, variables
from apflow_site.config.sections import Config
from apflow_site.config.sources import Computed, Source

__all__ = [
    "FILE_VARIABLE",
    "PREFIX",
    "Config",
    "ConfigError",
    "check_flags",
    "get_config",
    "known_settings",
    "load",
    "secret_variables",
    "shown",
    "variables",
]


@cache
def get_config() -> Config:
    """Return the configuration of this process. Raises ConfigError."""
    return load(os.environ)


def load(environ: Mapping[str, str]) -> Config:
    """Read the environment and the file that it names. Raises ConfigError with all faults."""
    return _load(environ)[0]


def check_flags(flags: Mapping[str, object], *, names: Mapping[str, str]) -> None:
    """Check the values of flags by key. Raises ConfigError with all faults, which have the names of the flags."""
    texts = {names[key]: str(value) for key, value in flags.items()}
    if faults := faults_of(Source.of_texts(texts, keys={names[key]: key for key in flags})):
        raise ConfigError(*faults)


def shown(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Return `key`, `value` and `source` of every setting, with secrets masked. Raises ConfigError."""
    config, sources = _load(environ)
    for key, setting in known_settings().items():
        value = attrgetter(key)(config)
        text = _masked(str(value)) if setting.is_secret and value is not None else value
        yield {"key": key, "value": text, "source": _place(key, sources)}


def _load(environ: Mapping[str, str]) -> tuple[Config, list[Source]]:
    sources, faults = _sources(environ)
    faults += [fault for source in reversed(sources) for fault in faults_of(source)]
    faults += unknown_variables(environ)
    if faults:
        raise ConfigError(*faults)
    config = Config(*sources, Computed(environ))
    if faults := list(contradictions(config, place=lambda key: _place(key, sources), file=environ.get(FILE_VARIABLE))):
        raise ConfigError(*faults)
    return config, sources


def _sources(environ: Mapping[str, str]) -> tuple[list[Source], list[str]]:
    """Return the sources in order of precedence, and the faults of unreadable ones."""
    short = {name: key for key, name in SHORT_VARIABLES.items()}
    long = {variables(key)[-1]: key for key in known_settings()}
    sources, faults = [Source.of_texts(environ, keys=keys) for keys in (short, long)], []
    path = environ.get(FILE_VARIABLE)
    if path is not None:
        try:
            sources.append(Source.of_file(path))
        except ValueError as error:
            faults.append(f"{path or FILE_VARIABLE}: {error}.")
    return sources, faults


def _place(key: str, sources: list[Source]) -> str:
    return next((source.place(key) for source in sources if source.gives(key)), "default")


def _masked(secret: str) -> str:
    """Return a URL without user, password and query; nothing of other secrets."""
    scheme, slashes, rest = secret.partition("://")
    return f"{scheme}://{re.sub(r'^[^/]*@', '…@', rest).partition('?')[0]}" if slashes else "…"
