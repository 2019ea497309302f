"""The setting `executors.mcp.servers`: what it takes, and faults that show no secret."""

import json
from typing import Any

import pytest

from apflow_site.config import ConfigError, load, shown

VARIABLE = "AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS"
SECRET = "hush-hush-hush"
URL = "https://mcp.example.com/mcp"


def environment(servers: Any) -> dict[str, str]:
    return {VARIABLE: servers if isinstance(servers, str) else json.dumps(servers)}


def test_the_environment_has_them_as_json() -> None:
    servers = {
        "search": {"url": URL, "headers": {"X-Key": SECRET}},
        "files": {"command": ["/usr/bin/npx", "-y", "files"], "env": {"KEY": SECRET}},
    }
    found = load(environment(servers)).executors.mcp.servers
    assert found is not None
    assert (found["search"].url, found["search"].headers) == (URL, {"X-Key": SECRET})
    assert (found["files"].command, found["files"].env) == (("/usr/bin/npx", "-y", "files"), {"KEY": SECRET})
    assert SECRET not in repr(found)


def test_they_are_shown_without_secrets() -> None:
    rows = shown(environment({"search": {"url": URL, "headers": {"X-Key": SECRET}}}))
    (row,) = [each for each in rows if each["key"] == "executors.mcp.servers"]
    assert SECRET not in str(row)


@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a mapping"),
        ({"a.b": {"url": URL}}, "'a.b' is no name of a server"),
        ({"a": URL}, "'a' needs either url or command"),
        ({"a": {}}, "'a' needs either url or command"),
        ({"a": {"url": URL, "command": ["/bin/cat"]}}, "'a' needs either url or command"),
        ({"a": {"url": URL, "env": {}}}, "'a' has the key 'env'; with url it may have headers and user_headers"),
        ({"a": {"command": ["/bin/cat"], "header": {}}}, "'a' has the key 'header'; with command it may have env"),
        ({"a": {"url": "ftp://x"}}, "url of 'a' must be an http:// or https:// address"),
        ({"a": {"url": URL, "headers": {"X-Key": 1}}}, "headers of 'a' must be a mapping of names"),
        ({"a": {"url": URL, "user_headers": "X"}}, "user_headers of 'a' must be a list of names"),
        ({"a": {"command": "cat"}}, "command of 'a' must be a list: the absolute path of a program"),
        ({"a": {"command": []}}, "command of 'a' must be "),
        ({"a": {"command": ["cat", SECRET]}}, "command of 'a' must be "),
        ({"a": {"command": ["/bin/cat", 1]}}, "command of 'a' must be "),
        ({"a": {"command": ["/bin/cat"], "env": [SECRET]}}, "env of 'a' must be "),
    ],
)
def test_a_fault_says_where_it_is_and_shows_no_value(servers: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environment(servers))
    (fault,) = caught.value.faults
    assert f"executors.mcp.servers ({VARIABLE}): the value (a secret, so not shown) is not allowed: {reason}" in fault
    assert SECRET not in fault
