"""The configuration: where values come from, what is refused, and that every setting is documented."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined, ValidationError

from apflow_site.config import (
    Config,
    ConfigError,
    get_config,
    known_settings,
    load,
    reference,
    secret_variables,
    variables,
)
from apflow_site.config.elsewhere import for_processes
from apflow_site.config.faults import faults_of as faults_in
from apflow_site.config.sources import Source
from apflow_site.databases import database_settings
from tasks.rules.extras import EXTRAS
from tests.documents import text

DOCS = Path(__file__).parents[2] / "docs"
GUIDE_FILE = """\
server:
  host: 0.0.0.0
  port: 8000
  workers: 4

database:
  url: postgresql://user:pass@localhost/db

auth:
  enabled: true
  jwt_secret: your-secret-key
"""
GUIDE_ENVIRONMENT = {
    "AIPARTNERUPFLOW_HOST": "0.0.0.0",
    "AIPARTNERUPFLOW_PORT": "8000",
    "AIPARTNERUPFLOW_DATABASE_URL": "postgresql://user:pass@localhost/db",
    "AIPARTNERUPFLOW_JWT_SECRET": "your-secret-key",
}

Load = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path) -> Load:
    """Load a file with this text, if any, and these variables, given without their prefix."""

    def load_with(content: str | bytes | None = None, **environ: str) -> Config:
        variables = {f"AIPARTNERUPFLOW_{name}": value for name, value in environ.items()}
        if content is not None:
            file = tmp_path / "config.yaml"
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            variables["AIPARTNERUPFLOW_CONFIG"] = str(file)
        return load({"XDG_DATA_HOME": str(tmp_path), **variables})

    return load_with


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def faults_of(configure: Load, *args: Any, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configure(*args, **environ)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return list(caught.value.faults)


def test_without_file_and_environment_every_key_has_its_default(configure: Load, tmp_path: Path) -> None:
    config = configure()
    data_dir = tmp_path / "aipartnerupflow"
    assert config.server.data_dir == str(data_dir)
    assert database_settings(config.database.url)["NAME"] == str(data_dir / "aipartnerupflow.sqlite3")
    assert config.worker.processes == 1
    assert config.auth.is_on is False
    for key, setting in known_settings().items():
        if setting.default is not PydanticUndefined:
            assert value_of(config, key) == setting.default, key


def test_the_data_folder_is_in_the_home_folder_unless_xdg_names_an_absolute_one() -> None:
    in_home = str(Path.home() / ".local/share/aipartnerupflow")
    assert load({}).server.data_dir == in_home
    assert load({"XDG_DATA_HOME": "relative"}).server.data_dir == in_home


def test_paths_become_absolute(configure: Load) -> None:
    assert configure(DATA_DIR="data").server.data_dir == str(Path.cwd() / "data")
    assert configure(DATA_DIR="~/data").server.data_dir == str(Path.home() / "data")


@pytest.mark.parametrize(
    "folder", ["/srv/data", "/srv/a b", "/srv/what?", "/srv/a#b", "/srv/100%", "/srv/päth", "/srv/\udcff"]
)
def test_the_default_database_lies_in_any_data_folder(configure: Load, folder: str) -> None:
    assert database_settings(configure(DATA_DIR=folder).database.url)["NAME"] == f"{folder}/aipartnerupflow.sqlite3"


def test_the_file_of_the_guide_loads_verbatim(configure: Load) -> None:
    config = configure(GUIDE_FILE)
    assert (config.server.host, config.server.port, config.server.workers) == ("0.0.0.0", 8000, 4)
    assert config.database.url == "postgresql://user:pass@localhost/db"
    assert config.auth.is_on
    assert config.auth.jwt_secret == "your-secret-key"
    assert 1 <= config.worker.processes <= 4


def test_the_environment_of_the_guide_loads_verbatim() -> None:
    config = load(GUIDE_ENVIRONMENT)
    assert (config.server.host, config.server.port) == ("0.0.0.0", 8000)
    assert config.database.url == "postgresql://user:pass@localhost/db"
    assert config.auth.is_on


def test_the_shares_of_the_page_load_from_a_file_and_from_a_variable(configure: Load) -> None:
    page = (DOCS / "how-to/operate.md").read_text()
    [block] = re.findall(r"```yaml\n(shares:\n.*?)```", page, re.DOTALL)
    [text] = re.findall("`AIPARTNERUPFLOW_SHARES=(.*?)`", page)
    assert configure(block).shares == configure(SHARES=text).shares == {"nightly-batch": 25, "alice": 100}
    config = configure(block, JWT_SECRET="s" * 32)
    assert [config.share_of(user_id) for user_id in ("nightly-batch", "alice", "bob")] == [25, 100, 75]
    assert configure(block).share_of("nightly-batch") == 100, "without authentication all users are the same"


def test_a_process_reads_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPARTNERUPFLOW_PORT", "4321")
    assert get_config.__wrapped__().server.port == 4321


def test_the_environment_beats_the_file_and_the_file_the_default(configure: Load) -> None:
    file = "server: {host: file.example, port: 1}"
    config = configure(file, PORT="2")
    assert (config.server.host, config.server.port, config.server.workers) == ("file.example", 2, 1)


@pytest.mark.parametrize(
    ("key", "winner", "loser"),
    [
        ("server.host", "a.example", "b.example"),
        ("server.port", "1", "2"),
        ("server.data_dir", "/a", "/b"),
        ("auth.jwt_secret", "a", "b"),
    ],
)
def test_a_short_variable_beats_the_long_one(key: str, winner: str, loser: str) -> None:
    short, long = variables(key)
    assert str(value_of(load({long: loser}), key)) == loser
    for environ in ({short: winner, long: loser}, {long: loser, short: winner}):
        assert str(value_of(load(environ), key)) == winner


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("SERVER_WORKERS", "3", "server.workers", 3),
        ("SERVER_HOST", "::1", "server.host", "::1"),
        ("SERVER_PUBLIC_URL", "https://flow.example.com/a", "server.public_url", "https://flow.example.com/a"),
        (
            "SERVER_ALLOWED_HOSTS",
            "a.example, .b.example,*,[::1]",
            "server.allowed_hosts",
            ("a.example", ".b.example", "*", "[::1]"),
        ),
        ("SERVER_ALLOWED_HOSTS", "", "server.allowed_hosts", ()),
        ("AUTH_REQUIRED", "FALSE", "auth.required", False),
        ("WORKER_EMBEDDED", "no", "worker.embedded", False),
        ("WORKER_EMBEDDED", "0", "worker.embedded", False),
        ("WORKER_EMBEDDED", "yes", "worker.embedded", True),
        ("WORKER_EMBEDDED", "1", "worker.embedded", True),
        ("WORKER_PROCESSES", "7", "worker.processes", 7),
        ("WORKER_DRAIN_SECONDS", "0", "worker.drain_seconds", 0),
        ("REDIS_URL", "redis://:pw@localhost:6379/0", "redis.url", "redis://:pw@localhost:6379/0"),
        ("REDIS_URL", "rediss://cache.example", "redis.url", "rediss://cache.example"),
        ("LLM_ENCRYPTION_KEYS", f"{'a' * 32},{'b' * 40}", "llm.encryption_keys", ("a" * 32, "b" * 40)),
        (
            "LLM_API_BASE",
            "openai=https://a.example/v1, ollama=http://localhost:11434",
            "llm.api_base",
            {"openai": "https://a.example/v1", "ollama": "http://localhost:11434"},
        ),
        ("REDIS_URL", "unix:///run/redis.sock", "redis.url", "unix:///run/redis.sock"),
        ("EXECUTORS_MODULES", "mine.tasks,other", "executors.modules", ("mine.tasks", "other")),
        (
            "EXECUTORS_REST_ALLOW_PRIVATE",
            "10.0.0.0/8,::1,wiki",
            "executors.rest.allow_private",
            ("10.0.0.0/8", "::1", "wiki"),
        ),
        (
            "EXECUTORS_COMMAND_ALLOW",
            "/bin/a b, /opt/ä",
            "executors.command.allow",
            ("/bin/a b", "/opt/ä"),
        ),
        ("EXECUTORS_COMMAND_MEMORY_BYTES", "67108864", "executors.command.memory_bytes", 2**26),
        ("EXECUTORS_REST_ALLOWED_PORTS", "80, 8080", "executors.rest.allowed_ports", (80, 8080)),
        ("JWT_SECRET", "null", "auth.jwt_secret", "null"),
        ("SHARES", "nightly-batch=25, a@b.example = 100", "shares", {"nightly-batch": 25, "a@b.example": 100}),
    ],
)
def test_text_in_the_environment_becomes_a_value(
    configure: Load, variable: str, text: str, key: str, value: object
) -> None:
    assert value_of(configure(**{variable: text}), key) == value


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("", "server.port", 8000),
        ("# nothing\n", "server.port", 8000),
        ("server:\n", "server.port", 8000),
        ("server: {public_url: null}", "server.public_url", None),
        ("server: {port: '81'}", "server.port", 81),
        ("server: {allowed_hosts: [a.example, b.example]}", "server.allowed_hosts", ("a.example", "b.example")),
        ("worker: {embedded: no}", "worker.embedded", False),
        ("executors: {rest: {allowed_ports: [443]}}", "executors.rest.allowed_ports", (443,)),
        ("server: {<<: {port: 82}}", "server.port", 82),
        (b"\xef\xbb\xbfserver: {port: 83}", "server.port", 83),
        ("shares: {alice: 100, '123': 1}", "shares", {"alice": 100, "123": 1}),
        ("shares:\n", "shares", None),
    ],
)
def test_a_file_becomes_values(configure: Load, content: str | bytes, key: str, value: object) -> None:
    assert value_of(configure(content), key) == value


@pytest.mark.parametrize(
    ("variable", "text", "key", "allowed"),
    [
        ("PORT", "70000", "server.port", "a whole number from 0 to 65535"),
        ("PORT", "-1", "server.port", "a whole number from 0 to 65535"),
        ("PORT", "http", "server.port", "a whole number from 0 to 65535"),
        ("PORT", "", "server.port", "a whole number from 0 to 65535"),
        ("PORT", "80.5", "server.port", "a whole number from 0 to 65535"),
        ("PORT", "9" * 5000, "server.port", "a whole number from 0 to 65535"),
        ("SERVER_PORT", "tcp://10.0.0.1:80", "server.port", "a whole number from 0 to 65535"),
        ("HOST", "http://example.com", "server.host", "a host name or an IP address"),
        ("HOST", "localhost:8000", "server.host", "a host name or an IP address"),
        ("HOST", "", "server.host", "a host name or an IP address"),
        ("HOST", "a b", "server.host", "a host name or an IP address"),
        ("SERVER_WORKERS", "0", "server.workers", "a whole number from 1"),
        ("SERVER_PUBLIC_URL", "flow.example.com", "server.public_url", "an http:// or https:// address"),
        ("SERVER_PUBLIC_URL", "https://", "server.public_url", "an http:// or https:// address"),
        ("SERVER_PUBLIC_URL", "https://a.example/?b", "server.public_url", "an http:// or https:// address"),
        ("SERVER_ALLOWED_HOSTS", "a.example:80", "server.allowed_hosts", "host names"),
        ("LLM_ENCRYPTION_KEYS", "too-short", "llm.encryption_keys", "texts of at least 32 characters"),
        ("LLM_KEY_STORE", "disk", "llm.key_store", "database, redis or memory"),
        (
            "LLM_API_BASE",
            "https://a.example/v1",
            "llm.api_base",
            "a mapping of providers and http:// or https:// addresses",
        ),
        (
            "LLM_API_BASE",
            "openai=a.example",
            "llm.api_base",
            "a mapping of providers and http:// or https:// addresses",
        ),
        ("SERVER_ALLOWED_HOSTS", "https://a.example", "server.allowed_hosts", "host names"),
        ("DATA_DIR", "", "server.data_dir", "the path of a folder"),
        ("DATA_DIR", "a\0b", "server.data_dir", "the path of a folder"),
        ("DATA_DIR", "~no-such-user-here/x", "server.data_dir", "the home folder is not known"),
        ("DATABASE_URL", "mysql://hush@localhost/db", "database.url", "postgresql://"),
        ("REDIS_URL", "http://hush@localhost", "redis.url", "redis://"),
        ("REDIS_URL", "redis://", "redis.url", "redis://"),
        ("JWT_SECRET", "", "auth.jwt_secret", "a text that is hard to guess"),
        ("JWT_SECRET", "  ", "auth.jwt_secret", "a text that is hard to guess"),
        ("AUTH_ENABLED", "maybe", "auth.enabled", "true or false"),
        ("AUTH_ENABLED", "null", "auth.enabled", "true or false"),
        ("AUTH_ENABLED", "", "auth.enabled", "true or false"),
        ("WORKER_PROCESSES", "0", "worker.processes", "a whole number from 1"),
        ("WORKER_DRAIN_SECONDS", "-1", "worker.drain_seconds", "a whole number from 0"),
        ("EXECUTORS_MODULES", "mine/tasks.py", "executors.modules", "dotted module names"),
        ("EXECUTORS_COMMAND_ALLOW", "ls", "executors.command.allow", "'ls' is not absolute"),
        ("EXECUTORS_COMMAND_ALLOW", "/bin/ls,./ls", "executors.command.allow", "'./ls' is not absolute"),
        ("EXECUTORS_COMMAND_ALLOW", "~/bin/ls", "executors.command.allow", "absolute paths of programs"),
        ("EXECUTORS_COMMAND_ALLOW", "/bin/../bin/ls", "executors.command.allow", "not written the shortest way"),
        ("EXECUTORS_COMMAND_ALLOW", "/bin/ls/", "executors.command.allow", "not written the shortest way"),
        ("EXECUTORS_COMMAND_ALLOW", "/bin/l\0s", "executors.command.allow", "not written the shortest way"),
        ("EXECUTORS_COMMAND_FOLDERS", "data", "executors.command.folders", "absolute paths of folders"),
        ("EXECUTORS_COMMAND_TIMEOUT_SECONDS", "0", "executors.command.timeout_seconds", "a whole number from 1"),
        ("EXECUTORS_COMMAND_MEMORY_BYTES", "1", "executors.command.memory_bytes", "from 67108864"),
        ("EXECUTORS_REST_ALLOW_PRIVATE", "10.0.0.1/8", "executors.rest.allow_private", "has host bits set"),
        ("EXECUTORS_REST_ALLOW_PRIVATE", "http://wiki", "executors.rest.allow_private", "networks"),
        ("EXECUTORS_REST_ALLOW_PRIVATE", "wiki:80", "executors.rest.allow_private", "neither a name nor an address"),
        ("EXECUTORS_REST_ALLOWED_PORTS", "80,x", "executors.rest.allowed_ports", "ports from 1 to 65535"),
        ("EXECUTORS_REST_ALLOWED_PORTS", "0", "executors.rest.allowed_ports", "ports from 1 to 65535"),
        ("LIMITS_BODY_BYTES", "1", "limits.body_bytes", "a whole number from 1024"),
        ("LIMITS_TREE_DEPTH", "101", "limits.tree_depth", "a whole number from 1 to 100"),
        ("SHARES", "alice=50,bob=0", "shares", "see 'bob'. Give a mapping of names of users"),
        ("SHARES", "alice=101", "shares", "whole numbers from 1 to 100"),
        ("SHARES", "alice=25%", "shares", "whole numbers from 1 to 100"),
        ("SHARES", "alice", "shares", "see 'alice'"),
        ("SHARES", "=50", "shares", "see ''"),
        ("SHARES", "alice=50,alice=5", "shares", "'alice' appears twice"),
        ("LLM_API_BASE", "a=http://a,b=b", "llm.api_base", "see 'b'"),
    ],
)
def test_a_bad_value_stops_the_start_with_key_place_and_what_is_allowed(
    configure: Load, variable: str, text: str, key: str, allowed: str
) -> None:
    [fault] = faults_of(configure, **{variable: text})
    assert fault.startswith(f"{key} (AIPARTNERUPFLOW_{variable}): ")
    assert allowed in fault
    assert len(fault) < 500
    assert "hush" not in fault


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("server: {port: null}", "server.port (FILE): an empty value is not allowed"),
        ("server: {port: true}", "server.port (FILE): True is not allowed"),
        ("server: {port: [1]}", "server.port (FILE): [1] is not allowed"),
        ("server: {host: {a: 1}}", "server.host (FILE): {'a': 1} is not allowed"),
        ("server: 5", "server (FILE): 5 is not allowed. Give a mapping of keys to values."),
        ("executors: {rest: [1]}", "executors.rest (FILE): [1] is not allowed. Give a mapping"),
        ("auth: {jwt_secret: 20240601}", "auth.jwt_secret (FILE): the value (a secret, so not shown) is not allowed"),
        ("server: {prot: 1}", "server.prot (FILE): unknown key. Did you mean 'port' under 'server'?"),
        ("servr: {port: 1}", "servr (FILE): unknown key. Did you mean 'server'?"),
        ("port: 1", "port (FILE): unknown key. Did you mean 'port' under 'server' or 'email'?"),
        ("server.port: 1", "'server.port' (FILE): unknown key. Did you mean 'port' under 'server'?"),
        (
            "executors: {allow_private: []}",
            "executors.allow_private (FILE): unknown key. Did you mean 'allow_private' under",
        ),
        (
            "1: 2",
            "1 (FILE): unknown key. Known sections: a2a, auth, cache, database, email, events, executors, executors.command,",
        ),
        ("shares: 5", "shares (FILE): 5 is not allowed. Give a mapping of names of users"),
        (
            "shares: {a: 1, b: 1, c: 1, d: 1, z: true}",
            "shares (FILE): {'a': 1, 'b': 1, 'c': 1, 'd': 1, ...} is not allowed: see 'z'.",
        ),
        ("shares: {123: 5}", "shares (FILE): {123: 5} is not allowed"),
        ("shares: {alice: 5, alice: 6}", "FILE: the key 'alice' appears twice"),
        ("share: {alice: 5}", "share (FILE): unknown key. Did you mean 'shares'?"),
        (
            "worker: {shares: {alice: 5}}",
            "worker.shares (FILE): unknown key. Did you mean 'user_share' under 'worker'?",
        ),
        ("[]", "FILE: the file must be a mapping of sections"),
        ("just text", "FILE: the file must be a mapping of sections"),
        ("server: {port: 1, port: 2}", "FILE: the key 'port' appears twice; the second is in line 1."),
        ("server:\n  port: 1\nserver:\n  host: a", "FILE: the key 'server' appears twice; the second is in line 3."),
        ("server: {port: 1", "FILE: the file is not valid YAML at line 1, column 17;"),
        ("a: 1\n---\nb: 1", "FILE: the file is not valid YAML at line 2, column 1;"),
        ("auth: {jwt_secret: *hush}", "FILE: the file is not valid YAML at line 1, column 20;"),
        ("auth: {jwt_secret: !hush x}", "FILE: the file is not valid YAML at line 1, column 20;"),
        ("auth: {jwt_secret: !!bool hush}", "FILE: the file is not valid YAML;"),
        ("auth: {jwt_secret: !!timestamp hush}", "FILE: the file is not valid YAML;"),
        ("auth: {jwt_secret: !!python/object/apply:os.getcwd []}", "FILE: the file is not valid YAML"),
        ("[" * 100_000, "FILE: the file is not valid YAML"),
        ("a: &a [*a]\nb: *a", "a (FILE): unknown key."),
        (b"\xff\xfe\xff", "FILE: the file is not valid YAML"),
        ("#" * (2**20 + 1), "FILE: the file is larger than 1048576 bytes."),
    ],
)
def test_a_bad_file_stops_the_start(configure: Load, tmp_path: Path, content: str | bytes, fault: str) -> None:
    found = faults_of(configure, content)[0]
    assert found.startswith(fault.replace("FILE", str(tmp_path / "config.yaml"))), found
    assert "hush" not in found


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/no/such/config.yaml", "No such file or directory"),
        ("/", "Is a directory"),
        ("", "Is a directory"),
        ("a\0b", "null byte"),
        ("~no-such-user-here/config.yaml", "home directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load({"AIPARTNERUPFLOW_CONFIG": path})
    assert caught.value.faults[0].startswith(path or "AIPARTNERUPFLOW_CONFIG")


def test_an_unreadable_file_hides_no_fault_of_the_environment() -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            {"AIPARTNERUPFLOW_CONFIG": "/no/such/config.yaml", "AIPARTNERUPFLOW_PORT": "x", "AIPARTNERUPFLOW_PROT": "1"}
        )
    assert [fault.split()[0] for fault in caught.value.faults] == [
        "/no/such/config.yaml:",
        "server.port",
        "AIPARTNERUPFLOW_PROT:",
    ]


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("PROT", "Did you mean AIPARTNERUPFLOW_PORT?"),
        ("WORKERS", "Did you mean AIPARTNERUPFLOW_SERVER_WORKERS?"),
        ("DATABASE", "Did you mean AIPARTNERUPFLOW_DATABASE_URL?"),
        ("SECRET", "Did you mean AIPARTNERUPFLOW_JWT_SECRET?"),
        ("XYZZY", "All settings are in docs/reference/settings.md."),
    ],
)
def test_an_unknown_variable_stops_the_start_with_the_one_that_was_meant(
    configure: Load, variable: str, hint: str
) -> None:
    [fault] = faults_of(configure, **{variable: "hush"})
    assert fault.startswith(f"AIPARTNERUPFLOW_{variable}: unknown environment variable. ")
    assert hint in fault
    assert "hush" not in fault


def test_variables_of_the_client_and_of_others_are_left_alone() -> None:
    load({"AIPARTNERUPFLOW_URL": "x", "AIPARTNERUPFLOW_TOKEN": "x", "APFLOW_INTERNAL_X": "x", "PATH": "x"})


def test_all_faults_are_listed_at_once_even_those_that_another_place_overrides(configure: Load) -> None:
    faults = faults_of(configure, "server: {port: -1, colour: red}", PORT="1", AUTH_ENABLED="maybe")
    assert [fault.split()[0] for fault in faults] == ["server.port", "server.colour", "auth.enabled"]


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"AUTH_ENABLED": "false"}, False),
        ({"JWT_SECRET": "s"}, True),
        ({"JWT_SECRET": "s", "AUTH_ENABLED": "true"}, True),
        ({"JWT_SECRET": "s", "AUTH_ENABLED": "false"}, False),
        ({"JWT_SECRET": "s", "AUTH_REQUIRED": "true"}, True),
    ],
)
def test_a_secret_switches_authentication_on_unless_it_is_disabled(
    configure: Load, environ: dict[str, str], is_on: bool
) -> None:
    assert configure(**environ).auth.is_on is is_on


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"AUTH_ENABLED": "true"}, "auth.enabled (AIPARTNERUPFLOW_AUTH_ENABLED)"),
        ({"AUTH_REQUIRED": "true"}, "auth.required (AIPARTNERUPFLOW_AUTH_REQUIRED)"),
        (
            {"AUTH_REQUIRED": "1", "AUTH_ENABLED": "0", "JWT_SECRET": "s"},
            "auth.required (AIPARTNERUPFLOW_AUTH_REQUIRED)",
        ),
    ],
)
def test_authentication_without_a_secret_is_refused_with_the_line_that_makes_one(
    configure: Load, environ: dict[str, str], key: str
) -> None:
    [fault] = faults_of(configure, **environ)
    assert fault.startswith(f"{key}: ")
    assert 'python -c "import secrets; print(secrets.token_urlsafe(48))"' in fault


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("files: {store: 's3://bucket', s3_access_key_id: AKIA}", "files.s3_access_key_id ("),
        ("files: {store: 's3://bucket', s3_secret_access_key: abc}", "files.s3_secret_access_key ("),
        ("files: {store: 'https://bucket'}", "files.store ("),
        ("files: {store: 's3://bucket/../x y'}", "files.store ("),
    ],
)
def test_settings_of_a_bucket_that_do_not_fit_together(configure: Load, file: str, fault: str) -> None:
    [found] = faults_of(configure, file)
    assert found.startswith(fault)
    assert configure("files: {store: 's3://our-bucket/a/b'}").files.store == "s3://our-bucket/a/b"


def test_the_bucket_of_the_page_on_files(configure: Load) -> None:
    found = configure(text("docs/how-to/files.md", "Keep them in a bucket", "yaml")).files
    assert found.store == "s3://our-bucket/aipartnerupflow"
    assert (found.s3_endpoint, found.s3_region) == ("https://s3.example.com", "eu-central-1")


def test_a_setting_for_an_extra_that_is_not_installed_stops_the_start_with_the_line_that_installs_it(
    configure: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.rules.extras.EXTRAS", dict.fromkeys(EXTRAS, "a_module_that_is_not_installed"))
    file = """\
a2a: {grpc_port: 50051}
executors:
  crewai: {tools: {search: my.Tool}, crews: {report: "my:Crew"}}
  langgraph: {graphs: {support: "my:graph"}}
  llm: {tools: [echo_executor]}
  ssh: {hosts: {build: deploy@build.example.com}, keys: [/k], known_hosts: /h}
files: {store: s3://bucket/prefix}
pools: {ray: {address: auto}}
"""
    faults = faults_of(configure, file)
    for key, line in {
        "a2a.grpc_port": "'grpcio-reflection<2,>=1.75' 'grpcio<2,>=1.75' 'protobuf<8,>=6', or in a clone",
        "executors.crewai.tools": "pip install 'crewai<2,>=1.15' 'litellm<2,>=1.110', or in a clone",
        "executors.crewai.crews": "pip install 'crewai<2,>=1.15' 'litellm<2,>=1.110', or in a clone",
        "executors.langgraph.graphs": "pip install 'langgraph<2,>=1.2.24', or in a clone of the repository: make serve SET=all",
        "executors.llm.tools": "pip install 'litellm<2,>=1.110', or in a clone",
        "executors.ssh.hosts": "pip install 'asyncssh<3,>=2.21', or in a clone",
        "files.store": "pip install 'obstore<0.13,>=0.12', or in a clone",
        "pools.ray.address": "or in a clone of the repository: .venv/bin/pip install -e '.[ray]'",
    }.items():
        (fault,) = [fault for fault in faults if fault.startswith(key)]
        assert "is not installed. Install it: " in fault
        assert line in fault
    configure("executors: {langgraph: {state_bytes: 65536}}")


def test_a_repr_shows_no_secret(configure: Load) -> None:
    config = configure(GUIDE_FILE)
    for value in (config, config.auth, config.database):
        assert "secret" not in repr(value)
        assert "pass" not in repr(value)


def test_an_error_of_pydantic_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Config(Source({"auth": {"jwt_secret": ["hush"]}, "hush": "hush"}, place=str))
    assert "jwt_secret" in str(caught.value)
    assert "hush" not in repr(caught.value).replace("\nhush\n", "")


def test_a_configuration_does_not_change(configure: Load) -> None:
    with pytest.raises(ValidationError):
        configure().server.port = 1  # type: ignore[misc]


@pytest.mark.crews
def test_the_example_file_loads_and_has_every_key() -> None:
    text = (DOCS / "config.example.yaml").read_text()
    config = load({"AIPARTNERUPFLOW_CONFIG": str(DOCS / "config.example.yaml")})
    assert config.auth.is_on
    for key in known_settings():
        assert re.search(rf"^ *{key.rpartition('.')[2]}:", text, re.MULTILINE), key


def test_the_reference_has_every_setting_with_its_variables_and_default() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| (.*?) \| (.*?) \| \S", (DOCS / "reference/settings.md").read_text(), re.MULTILINE
    )
    documented = {key: (re.findall("`(.*?)`", names), default.strip("`")) for key, names, default in rows}
    assert documented == {
        key: (list(variables(key)), shown(setting.default)) for key, setting in known_settings().items()
    }


def shown(default: object) -> str:
    """A default as the reference writes it: as in the environment."""
    if default is PydanticUndefined:
        return "computed"
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "empty"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_reference_and_the_example_file_are_as_make_reference_writes_them() -> None:
    text = (DOCS / "reference/settings.md").read_text()
    assert text == reference.page(text)
    assert (DOCS / "config.example.yaml").read_text() == reference.example()


def test_every_setting_is_described_in_sentences() -> None:
    for key, setting in known_settings().items():
        assert re.fullmatch(r"[A-Z`].*\.", setting.description), key


def test_every_default_and_every_example_is_allowed() -> None:
    examples = {key: setting.example for key, setting in known_settings().items() if setting.example is not None}
    defaults = {key: setting.default for key, setting in known_settings().items() if not setting.is_computed}
    assert [
        faults_in(Source.of_texts(values, keys={key: key for key in values})) for values in (examples, defaults)
    ] == [[], []]


# --- named limits ---


def test_named_limits_are_in_the_file_or_as_json_in_the_environment(configure: Load) -> None:
    crm = {"match": {"host": "crm.example.com"}, "requests_per_minute": 600, "per": "user"}
    text = "limits:\n  shared:\n    crm: {match: {host: crm.example.com}, requests_per_minute: 600, per: user}\n"
    assert configure(text).limits.shared == {"crm": crm}
    assert configure(LIMITS_SHARED=json.dumps({"crm": crm})).limits.shared == {"crm": crm}
    assert configure().limits.shared is None
    config = configure(text)
    assert not [name for name in for_processes(config, {}) if "LIMITS_SHARED" in name]


@pytest.mark.parametrize(
    ("shared", "reason"),
    [
        ({"crm": {"requests_per_minut": 5}}, "'crm' has the key 'requests_per_minut', which is unknown; did you mean"),
        (
            {"crm": {}},
            "'crm' limits nothing: it needs requests_per_second, requests_per_minute, tokens_per_minute or at_once",
        ),
        ({"crm": {"requests_per_minute": 5, "match": {"modell": "x"}}}, "match of 'crm' has the key 'modell'"),
        ({"crm": 5}, "see 'crm'"),
        ([], ""),
    ],
)
def test_a_fault_of_a_named_limit_is_named(configure: Load, shared: Any, reason: str) -> None:
    [fault] = faults_of(configure, LIMITS_SHARED=json.dumps(shared))
    assert fault.startswith("limits.shared (AIPARTNERUPFLOW_LIMITS_SHARED): ")
    assert reason in fault
    assert "Give a mapping of names and limits" in fault


@pytest.mark.parametrize(
    ("provider", "hint"), [("opnai", "'openai'"), ("google", "'gemini'"), ("qqq", "the name that models begin with")]
)
def test_a_limit_of_a_provider_that_does_not_exist_stops_the_start(configure: Load, provider: str, hint: str) -> None:
    shared = {"gpt": {"match": {"provider": provider}, "requests_per_minute": 5}}
    [fault] = faults_of(configure, LIMITS_SHARED=json.dumps(shared))
    assert fault.startswith(
        f"limits.shared (AIPARTNERUPFLOW_LIMITS_SHARED): the provider '{provider}' of 'gpt' is unknown."
    )
    assert hint in fault
    known = json.dumps(shared | {"gpt": shared["gpt"] | {"match": {"provider": "house"}}})
    assert configure(LIMITS_SHARED=known, LLM_API_BASE="house=http://127.0.0.1:1/v1").limits.shared


# --- programs that allow everything ---

ESCAPERS = (
    "/bin/sh /usr/bin/bash /usr/bin/sort /usr/bin/git /usr/bin/tar /usr/bin/find /usr/bin/xargs /usr/bin/env /usr/bin/awk "
    "/usr/bin/gawk /usr/bin/mawk /usr/bin/sed /usr/bin/vi /usr/bin/vim.tiny /usr/bin/less /usr/bin/more /usr/bin/ssh "
    "/usr/bin/rsync /usr/bin/make /bin/busybox /usr/bin/perl /usr/bin/perl5.40.1 /usr/bin/ruby3.1 /usr/bin/nodejs "
    "/usr/bin/nice /usr/bin/timeout /usr/bin/nohup /usr/bin/setsid /usr/bin/sudo /usr/bin/su /usr/bin/python3.13 "
    "/opt/venv/bin/python /usr/bin/pypy3 /usr/bin/x86_64-linux-gnu-gcc-13 /lib64/ld-linux-x86-64.so.2 /usr/bin/cp /bin/dd "
    "/usr/bin/nc.openbsd /usr/bin/docker /usr/bin/R /usr/bin/lua5.4 /usr/bin/zip /usr/bin/man /usr/bin/sqlite3"
).split()


@pytest.mark.parametrize("program", ESCAPERS)
def test_a_program_that_runs_others_is_refused_by_name_unless_it_is_allowed_anyway(
    configure: Load, program: str
) -> None:
    [fault] = faults_of(configure, EXECUTORS_COMMAND_ALLOW=program)
    assert fault.startswith(
        f"executors.command.allow (AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW): {program} is not allowed: "
    )
    assert "Allow a script of your own" in fault
    anyway = configure(EXECUTORS_COMMAND_ALLOW=program, EXECUTORS_COMMAND_ALLOW_ANYWAY=program)
    assert anyway.executors.command.allow == (program,)


def test_a_link_to_such_a_program_is_refused_too(configure: Load, tmp_path: Path) -> None:
    harmless, link, box, shell = (tmp_path / name for name in ("harmless", "link", "busybox", "sh"))
    harmless.symlink_to("/bin/sh")
    link.symlink_to("harmless")
    for each in (harmless, link):
        [fault] = faults_of(configure, EXECUTORS_COMMAND_ALLOW=str(each))
        assert "is a shell, which runs any program" in fault
    box.touch()
    (tmp_path / "date").symlink_to(box)
    shell.symlink_to(box)
    assert configure(EXECUTORS_COMMAND_ALLOW=str(tmp_path / "date"))
    assert faults_of(configure, EXECUTORS_COMMAND_ALLOW=str(shell))


@pytest.mark.parametrize(
    "name", ["uname", "wc", "pdftotext", "sort-files", "find.py", "git-report", "python-less", "count-words"]
)
def test_other_programs_are_allowed(configure: Load, name: str) -> None:
    assert configure(EXECUTORS_COMMAND_ALLOW=f"/srv/bin/{name}").executors.command.allow == (f"/srv/bin/{name}",)


def test_a_program_that_is_allowed_anyway_must_be_allowed(configure: Load) -> None:
    [fault] = faults_of(configure, EXECUTORS_COMMAND_ALLOW_ANYWAY="/bin/sh")
    assert "/bin/sh is not in executors.command.allow" in fault


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"EXECUTORS_COMMAND_FOLDERS": "/srv", "DATA_DIR": "/srv/data"}, "server.data_dir"),
        ({"EXECUTORS_COMMAND_READABLE": "/srv", "DATABASE_URL": "sqlite:////srv/apflow.sqlite3"}, "database.url"),
        ({"DATA_DIR": "/usr/local/apflow", "DATABASE_URL": "sqlite:////srv/apflow.sqlite3"}, "server.data_dir"),
    ],
)
def test_commands_must_not_read_the_secrets_of_the_server(
    configure: Load, variables: dict[str, str], name: str
) -> None:
    faults = faults_of(configure, EXECUTORS_COMMAND_ALLOW="/bin/true", **variables)
    assert any(f"which contains secrets of the server: {name} is" in fault for fault in faults)


def test_commands_must_not_read_the_file_of_the_configuration(configure: Load, tmp_path: Path) -> None:
    content = f"executors: {{command: {{allow: [/bin/true], folders: [{tmp_path}]}}}}\n"
    with pytest.raises(ConfigError) as caught:
        configure(content)
    assert f"contains secrets of the server: AIPARTNERUPFLOW_CONFIG is {tmp_path}/config.yaml" in str(caught.value)


def test_secret_variables_are_those_of_all_secret_settings() -> None:
    environ = {
        "AIPARTNERUPFLOW_JWT_SECRET": "1",
        "AIPARTNERUPFLOW_DATABASE_URL": "2",
        "AIPARTNERUPFLOW_PORT": "3",
        "HOME": "4",
    }
    assert secret_variables(environ) == {"AIPARTNERUPFLOW_JWT_SECRET": "1", "AIPARTNERUPFLOW_DATABASE_URL": "2"}
