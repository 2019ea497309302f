"""Every setting: its name, its default and where it comes from. Settings, server and workers read nothing else.

A flag beats the environment, the environment the file, the file the default. Flags arrive as environment variables:
the command line sets them before Django starts, so that all child processes agree.
"""

import difflib
import os
import re
import reprlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from apflow_site.config_file import read_file
from apflow_site.config_values import (
    HOST_NAME,
    Section,
    Setting,
    check_folder,
    check_host,
    check_paths,
    check_targets,
    is_loopback,
    is_section,
    pairs,
    several,
    text,
    walk,
    whole,
)
from apflow_site.databases import DATABASE_URLS, database_settings, is_postgresql, sqlite_url

__all__ = ["Config", "ConfigError", "database_settings", "get_config", "load", "variables"]

PREFIX: Final = "AIPARTNERUPFLOW_"
FILE_VARIABLE: Final = f"{PREFIX}CONFIG"
#: With our prefix, but not settings: the file, and the server and token that the command line client talks to.
OTHER_VARIABLES: Final = frozenset({FILE_VARIABLE, f"{PREFIX}URL", f"{PREFIX}TOKEN"})
#: Short names of variables; where the long one is given too, the short one wins.
SHORT_VARIABLES: Final = MappingProxyType(
    {
        "server.host": f"{PREFIX}HOST",
        "server.port": f"{PREFIX}PORT",
        "server.data_dir": f"{PREFIX}DATA_DIR",
        "auth.jwt_secret": f"{PREFIX}JWT_SECRET",
    }
)
RANDOM_TEXT_COMMAND: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'

Switch = Annotated[bool, Meta(description="true or false")]
HostPattern = Annotated[str, Meta(pattern=rf"\A(\*|\.?{HOST_NAME}|\[[0-9A-Fa-f:.]+\])\Z")]
ModuleName = Annotated[str, Meta(pattern=r"\A[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")]
ToolName = Annotated[str, Meta(pattern=r"\A[A-Za-z][A-Za-z0-9_-]*\Z")]
WebAddress = Annotated[str, text("an http:// or https:// address", r"\Ahttps?://[^\s/?#]+[^\s?#]*\Z")]
PemFile = Annotated[str, text("the path of a file in PEM", r"\A[^\0]+\Z")]
RedisUrl = Annotated[
    str, text("a redis://, rediss:// or unix:// URL", r"\A(rediss?://[^\s/]|unix://\S*/)\S*\Z", is_secret=True)
]
EncryptionKey = Annotated[str, Meta(min_length=32)]
KeyStore = Literal["database", "redis", "memory"]
ProviderName = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_-]*\Z")]


class Server(Section, frozen=True, kw_only=True):
    host: Annotated[str, text("a host name or an IP address, without a port", check=check_host)] = "127.0.0.1"
    port: Annotated[int, whole(0, 65535)] = 8000
    workers: Annotated[int, whole(1, 256)] = 1
    public_url: WebAddress | None = None
    allowed_hosts: Annotated[tuple[HostPattern, ...], several("host names (example.com, .example.com or *)")] = ()
    examples: Annotated[str, text("run, store or none", r"\A(run|store|none)\Z")] = "run"
    data_dir: Annotated[str, text("the path of a folder", r"\A[^\0]+\Z", check=check_folder)]

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server, directly or by its public address."""
        public = urlsplit(self.public_url or "").hostname
        return is_loopback(self.host) and (public is None or is_loopback(public))


class Database(Section, frozen=True, kw_only=True):
    url: Annotated[str, text(DATABASE_URLS, is_secret=True, check=database_settings)]


class Auth(Section, frozen=True, kw_only=True):
    enabled: Switch | None = None
    jwt_secret: Annotated[str, text("a text that nobody can guess", r"\S", is_secret=True)] | None = None
    required: Switch = False
    access_minutes: Annotated[int, whole(1, 1440)] = 15
    refresh_days: Annotated[int, whole(1, 365)] = 1

    @property
    def is_on(self) -> bool:
        """A secret switches authentication on, unless `enabled` says otherwise."""
        return self.jwt_secret is not None if self.enabled is None else self.enabled


class Redis(Section, frozen=True, kw_only=True):
    url: RedisUrl | None = None


class Worker(Section, frozen=True, kw_only=True):
    embedded: Switch = True
    processes: Annotated[int, whole(1, 256)]
    max_trees: Annotated[int, whole(1, 10_000)] = 1_000
    max_tasks: Annotated[int, whole(1, 100_000)] = 1000
    drain_seconds: Annotated[int, whole(0, 3600)] = 30
    metrics_port: Annotated[int, whole(1, 65535)] | None = None


class Rest(Section, frozen=True, kw_only=True):
    allow_private: Annotated[
        tuple[str, ...], several("host names, IP addresses or networks such as 10.0.0.0/8", check=check_targets)
    ] = ()
    allowed_ports: Annotated[tuple[Annotated[int, whole(1, 65535)], ...], several("ports from 1 to 65535")] = (80, 443)


class Command(Section, frozen=True, kw_only=True):
    allow: Annotated[tuple[str, ...], several("absolute paths of programs", check=check_paths)] = ()
    folders: Annotated[tuple[str, ...], several("absolute paths of folders", check=check_paths)] = ()
    timeout_seconds: Annotated[int, whole(1, 7 * 86_400)] = 30
    output_bytes: Annotated[int, whole(1024, 2**30)] = 2**20
    cpu_seconds: Annotated[int, whole(1, 7 * 86_400)] = 60
    memory_bytes: Annotated[int, whole(2**26, 2**50)] = 2**32
    processes: Annotated[int, whole(1, 10_000)] = 64
    file_bytes: Annotated[int, whole(0, 2**50)] = 2**26


class Crewai(Section, frozen=True, kw_only=True):
    tools: Annotated[dict[ToolName, ModuleName], pairs("names and the dotted paths of CrewAI tools")] | None = None
    max_crews: Annotated[int, whole(1, 1000)] = 32


class Executors(Section, frozen=True, kw_only=True):
    modules: Annotated[tuple[ModuleName, ...], several("dotted module names")] = ()
    command: Command
    crewai: Crewai
    rest: Rest


class Webhooks(Section, frozen=True, kw_only=True):
    allow_private: Switch = False
    allowed_ports: Annotated[tuple[Annotated[int, whole(1, 65535)], ...], several("ports from 1 to 65535")] = (80, 443)
    keep_hours: Annotated[int, whole(1, 30 * 24)] = 24
    timeout_seconds: Annotated[int, whole(1, 120)] = 10
    max_per_run: Annotated[int, whole(1, 1000)] = 10


class Llm(Section, frozen=True, kw_only=True):
    encryption_keys: Annotated[
        tuple[EncryptionKey, ...], several("texts of at least 32 characters, the newest first", is_secret=True)
    ] = ()
    key_store: Annotated[KeyStore, Meta(description="database, redis or memory")] = "database"
    environment_keys: Switch = True
    default_model: Annotated[str, text("a model such as openai/gpt-4o-mini", r"\A\S+\Z")] | None = None
    demo: Switch = True
    api_base: Annotated[dict[ProviderName, WebAddress], pairs("providers and http:// or https:// addresses")] | None = (
        None
    )


class Events(Section, frozen=True, kw_only=True):
    keep_days: Annotated[int, whole(0, 36_500)] = 30


class Limits(Section, frozen=True, kw_only=True):
    body_bytes: Annotated[int, whole(1024, 2**30)] = 10 * 2**20
    nesting: Annotated[int, whole(8, 200)] = 64
    batch: Annotated[int, whole(1, 10_000)] = 100
    tasks_per_tree: Annotated[int, whole(1, 1_000_000)] = 10_000
    tree_depth: Annotated[int, whole(1, 100)] = 100
    result_bytes: Annotated[int, whole(1024, 2**30)] = 2**20
    runs_per_user: Annotated[int, whole(1, 1_000_000)] = 1_000
    streams: Annotated[int, whole(1, 1_000_000)] = 2_000
    streams_per_user: Annotated[int, whole(1, 1_000_000)] = 50
    messages_per_second: Annotated[int, whole(1, 1_000_000)] = 100


class A2a(Section, frozen=True, kw_only=True):
    card: Annotated[str, text('hybrid, "1.0" or "0.3" (in quotes)', r"\A(hybrid|1\.0|0\.3)\Z")] = "hybrid"
    message_handler: Annotated[str, text("the dotted path of a function", r"\A[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\Z")] = (
        "a2a.protocol.message_handler.decide"
    )
    text_executor: Annotated[str, text("the id of an executor", r"\A\S+\Z")] | None = None
    streaming: Switch = True
    push_notifications: Switch = True
    extended_card: Switch | None = None
    required_extensions: Annotated[tuple[str, ...], several("URIs of extensions")] = ()
    signing_key: PemFile | None = None
    grpc_port: Annotated[int, whole(1, 65535)] | None = None
    grpc_certificate: PemFile | None = None
    grpc_key: PemFile | None = None


class Log(Section, frozen=True, kw_only=True):
    format: Annotated[str, text("text or json", r"\A(text|json)\Z")] = "text"
    level: Annotated[str, text("debug, info, warning or error", r"\A(debug|info|warning|error)\Z")] = "info"
    requests: Switch = False


class Config(Section, frozen=True, kw_only=True):
    server: Server
    database: Database
    auth: Auth
    redis: Redis
    worker: Worker
    executors: Executors
    llm: Llm
    webhooks: Webhooks
    events: Events
    limits: Limits
    log: Log
    a2a: A2a

    @property
    def is_open(self) -> bool:
        """Whether others than this machine reach the server, and nobody is asked who they are."""
        return not self.auth.is_on and not self.server.is_local


class ConfigError(Exception):
    """The configuration is not valid. The text names every fault: key, place, what is wrong and what is allowed."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("The configuration is not valid:\n" + "\n".join(f"- {fault}" for fault in faults))


class Found(NamedTuple):
    """A value, the key it is meant for, and the place it stands in: a variable, a file, or the defaults."""

    key: str
    place: str
    raw: Any


@cache
def known_settings() -> Mapping[str, Setting]:
    """Every setting by its dotted key."""
    return MappingProxyType({setting.key: setting for setting in walk(Config)})


def variables(key: str) -> tuple[str, ...]:
    """The environment variables of a key; the first one wins."""
    long = PREFIX + key.upper().replace(".", "_")
    return (SHORT_VARIABLES[key], long) if key in SHORT_VARIABLES else (long,)


@cache
def get_config() -> Config:
    """The configuration of this process. Raises ConfigError."""
    return load(os.environ)


def load(environ: Mapping[str, str]) -> Config:
    """Read the file that the environment names, then the environment itself. Raises ConfigError with all faults."""
    values, places = _read(environ)
    config = _build(Config, _complete(values))
    if faults := [*_auth_faults(config.auth, places), *_llm_faults(config, places)]:
        raise ConfigError(*faults)
    return config


def check_flags(flags: Mapping[str, object], *, names: Mapping[str, str]) -> None:
    """Check values that come as flags, by their keys, under the names of the flags: in the environment nobody would know them again.

    Raises ConfigError with all faults.
    """
    faults = []
    for key, value in flags.items():
        try:
            known_settings()[key].convert(str(value))
        except ValueError as error:
            faults.append(_bad_value(Found(key, names[key], str(value)), known_settings()[key], str(error)))
    if faults:
        raise ConfigError(*faults)


def shown(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every setting: `key`, `value` with secrets masked, and `source`, the place that it comes from. Raises ConfigError."""
    values, places = _read(environ)
    complete = _complete(values)
    for key, setting in known_settings().items():
        value = complete.get(key, setting.default)
        text = None if value is None else _masked(str(value)) if setting.is_secret else value
        yield {"key": key, "value": text, "source": places.get(key, "default")}


def _masked(secret: str) -> str:
    """Of a URL all but the user, the password and the query; of another secret nothing."""
    scheme, slashes, rest = secret.partition("://")
    return f"{scheme}://{re.sub(r'^[^/]*@', '…@', rest).partition('?')[0]}" if slashes else "…"


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are given, by key, and their places. Raises ConfigError."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    faults: list[str] = []
    for found in [*_from_defaults(environ), *_from_file(environ), *_from_environ(environ)]:
        setting = known_settings().get(found.key)
        if setting is None:
            faults.append(_unknown(found))
            continue
        try:
            values[found.key] = setting.convert(found.raw)
            places[found.key] = found.place
        except ValueError as error:
            faults.append(_bad_value(found, setting, str(error)))
    if faults:
        raise ConfigError(*faults)
    return values, places


def _from_defaults(environ: Mapping[str, str]) -> Iterator[Found]:
    shared = environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    folder = shared if Path(shared).is_absolute() else "~/.local/share"
    yield Found("server.data_dir", "default", f"{folder}/aipartnerupflow")


def _from_file(environ: Mapping[str, str]) -> Iterator[Found]:
    path = environ.get(FILE_VARIABLE)
    if path is None:
        return
    try:
        content = read_file(path)
    except ValueError as error:
        raise ConfigError(f"{path or FILE_VARIABLE}: {error}.") from error
    yield from _flatten(content, Config, path)


def _flatten(content: Mapping[Any, Any], section: type[Section], place: str, prefix: str = "") -> Iterator[Found]:
    """The values of a mapping by dotted key; what does not fit the sections comes out as it stands."""
    sections = {field.name: field.type for field in msgspec.structs.fields(section) if is_section(field.type)}
    for name, raw in content.items():
        if name in sections and (raw is None or isinstance(raw, dict)):
            yield from _flatten(raw or {}, sections[name], place, f"{prefix}{name}.")
        else:
            # Quoted when it has a dot itself, so that `server.port: 80` is not taken for `port` under `server`.
            yield Found(prefix + (repr(name) if "." in str(name) else str(name)), place, raw)


def _from_environ(environ: Mapping[str, str]) -> Iterator[Found]:
    """Long names first, so that the short ones win."""
    keys = {variable: key for key in known_settings() for variable in variables(key)}
    names = [name for name in environ if name.startswith(PREFIX) and name not in OTHER_VARIABLES]
    for name in sorted(names, key=lambda name: (name in SHORT_VARIABLES.values(), name)):
        yield Found(keys.get(name, name), name, environ[name])


def _unknown(found: Found) -> str:
    if found.place == found.key:
        suffixes = {variable.removeprefix(PREFIX) for key in known_settings() for variable in variables(key)}
        close = difflib.get_close_matches(found.key.removeprefix(PREFIX), sorted(suffixes), n=1)
        hint = f" Did you mean {PREFIX}{close[0]}?" if close else ""
        return f"{found.key}: unknown environment variable.{hint} Every setting stands in docs/reference/settings.md."
    if any(key.startswith(f"{found.key}.") for key in known_settings()):
        return f"{found.key} ({found.place}): {_shorten(found.raw)} is not allowed. Give a mapping of keys to values."
    return f"{found.key} ({found.place}): unknown key.{_close_key(found.key)}"


def _close_key(key: str) -> str:
    """The key that stands in another section, or the one that is written nearly so."""
    known = list(known_settings())
    sections = {name.rpartition(".")[0] for name in known}
    moved = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = moved if len(moved) == 1 else difflib.get_close_matches(key, [*sorted(sections), *known], n=1)
    if not close:
        return f" Known sections: {', '.join(sorted(sections))}."
    section, _, name = close[0].rpartition(".")
    return f" Did you mean '{name}' under '{section}'?" if section else f" Did you mean '{name}'?"


def _bad_value(found: Found, setting: Setting, reason: str) -> str:
    value = "the value (a secret, so not shown)" if setting.is_secret else _shorten(found.raw)
    why = f": {reason}" if reason else ""
    return f"{found.key} ({found.place}): {value} is not allowed{why}. Give {setting.meta.description}."


def _shorten(raw: Any) -> str:
    if raw is None or raw == "":
        return "an empty value"
    return repr(raw[:200]) if isinstance(raw, str) else reprlib.repr(raw)


def _complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults that hang on other values."""
    data_dir = Path(values["server.data_dir"]).expanduser().absolute()
    url = values.get("database.url") or sqlite_url(data_dir / "aipartnerupflow.sqlite3")
    # SQLite has one writer at a time: more processes only wait longer for each other.
    processes = min(4, os.cpu_count() or 1) if is_postgresql(url) else 1
    defaults = {"database.url": url, "worker.processes": processes}
    return {**defaults, **values, "server.data_dir": str(data_dir)}


SectionType = TypeVar("SectionType", bound=Section)


def _build(section: type[SectionType], values: Mapping[str, Any], prefix: str = "") -> SectionType:
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        key = f"{prefix}{field.name}"
        if is_section(field.type):
            fields[field.name] = _build(field.type, values, f"{key}.")
        elif key in values:
            fields[field.name] = values[key]
    return section(**fields)


def _auth_faults(auth: Auth, places: Mapping[str, str]) -> Iterator[str]:
    if auth.is_on and auth.jwt_secret is None:
        yield (
            f"auth.enabled ({places['auth.enabled']}): authentication needs a secret and has none. Make one with "
            f"`{RANDOM_TEXT_COMMAND}` and give it as {variables('auth.jwt_secret')[0]} or auth.jwt_secret."
        )
    if auth.required and not auth.is_on:
        yield (
            f"auth.required ({places['auth.required']}): authentication is required but off. Give auth.jwt_secret, "
            f"made with `{RANDOM_TEXT_COMMAND}`, and do not set auth.enabled to false; or set auth.required to false."
        )


def _llm_faults(config: Config, places: Mapping[str, str]) -> Iterator[str]:
    if config.llm.key_store == "redis" and config.redis.url is None:
        yield (
            f"llm.key_store ({places['llm.key_store']}): 'redis' needs a Redis and has none. Give redis.url, "
            f"or {variables('redis.url')[0]}."
        )
