"""The OpenAPI document: valid, complete, and true by what schemathesis finds out from a real server."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import msgspec
import pytest
from django.urls import resolve
from drf_spectacular.validation import validate_schema

from a2a.core.errors import RULES
from a2a.endpoints.docs import ASSETS
from a2a.methods import task_schemas
from a2a.rest.openapi import openapi_document
from a2a.rest.operations import ROUTES
from a2a.rest.views import urlpatterns
from tasks.executors import describe
from tasks.rules.field_rules import AS_NEW, TASK_FIELDS, check_task, without_empty
from tests.servers import ROOT, Json, new_database, running_server

CHECKING_SECONDS: Final = 1800
DOCUMENT: Final = openapi_document(with_authentication=False)
WHOLE: Final = openapi_document(with_authentication=True)
NAME_OTHERS: Final = {
    ("/api/files/", "get"),
    ("/api/evals/", "post"),
    *(("/api/hooks/{name}/", method) for method in ("get", "put")),
    *((f"/api/hooks/{{name}}/{what}/", method) for what, method in (("deliveries", "get"), ("replay", "post"))),
    ("/api/limits/{name}/", "get"),
    ("/api/notifications/{name}/", "put"),
    ("/api/notifications/{name}/test/", "post"),
    ("/api/schedules/", "post"),
    ("/api/schedules/preview/", "post"),
    ("/api/runs/", "get"),
    ("/api/runs/compare/", "get"),
}
"""Their bodies or queries name what may not be there."""
NEVER_MISSING: Final = {
    ("/api/webhooks/{webhook_id}/", "delete"),
    *((f"/api/executors/{{executor_id}}/{verb}/", "post") for verb in ("pause", "resume")),
    *((f"/api/users/{{user_id}}/{verb}/", "post") for verb in ("pause", "resume")),
}
"""They answer whether there was one, or an unknown name is not the id of a resource."""
WITH_TREES: Final = {
    ("/api/tasks/", "post"),
    ("/api/tasks/{task_id}/", "patch"),
    ("/api/schedules/", "post"),
    ("/api/schedules/{schedule_id}/", "patch"),
    ("/api/flows/{name}/", "put"),
}
"""Their bodies hold a task or whole trees, so that schemathesis makes five of six requests for them."""
OPERATIONS: Final = [
    (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods if path.startswith("/api/")
]
OF_BYTES: Final = [("/files", "post"), ("/files/{file_id}", "get"), ("/files/{file_id}", "put")]
"""The operations of files whose bodies are bytes: no table has them."""
#: What a field of a task may hold, or may not.
VALUES: Final[list[Any]] = [
    *["pending", None, True, 0, 1, 3, 4, -1, 1.5, 2.0, 4.0, "", "x", "x" * 255, "x" * 256],
    *[[], ["a"], [""], [1], [None], ["a", {"id": "b"}], [{"id": "a", "required": False}], [{"name": "a"}]],
    *[[{}], [{"id": "a", "name": "b"}], [{"id": "a", "required": 1}], [{"id": ""}], [{"id": "a", "more": 1}]],
    *[{}, {"a": [1]}, {"executor_id": "x"}, {"executor_id": ""}, {"executor_id": None}, {"method": "x"}, {"method": 1}],
    *[{"input_schema": {}}, {"input_schema": []}, {"model": "any"}, {"timeout_seconds": 0}, {"timeout_seconds": 0.5}],
    *[{"timeout_seconds": 86_400 * 30}, {"timeout_seconds": 86_400 * 30 + 1}, {"timeout_seconds": "1"}, {"works": {}}],
    *[{"retry": {}}, {"retry": None}, {"retry": {"max_attempts": 1}}, {"retry": {"max_attempts": 0}}],
    *[{"retry": {"max_attempts": 101}}, {"retry": {"max_attempts": 1.5}}, {"retry": {"more": 1}}],
    *[{"retry": {"max_attempts": 75.0}}, {"retry": {"max_attempts": 101.0}}],
    *[{"retry": {"backoff_seconds": 0}}, {"retry": {"backoff_seconds": -1}}, {"retry": {"backoff_factor": 101}}],
    *[{"retry": {"backoff_factor": 1.5, "max_backoff_seconds": 60}}, {"retry": {"max_backoff_seconds": True}}],
]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def parts_of(part: Any, *path: Any) -> Iterator[tuple[tuple[Any, ...], Json]]:
    """All objects in a JSON value, each with its path."""
    if isinstance(part, dict):
        yield path, part
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list | tuple) else ()
    for name, each in below:
        yield from parts_of(each, *path, name)


def test_generators_of_clients_find_all_that_they_need() -> None:
    """What `openapi-python-client` leaves out operations for, and `spectral` calls an error or asks for."""
    arrays = [path for path, part in parts_of(WHOLE) if part.get("type") in ("array", ["array", "string"])]
    without = [path for path in arrays if not {"items", "prefixItems"} & dict(parts_of(WHOLE))[path].keys()]
    assert (len(arrays) > 100, without) == (True, [])
    known = {tag["name"] for tag in WHOLE["tags"] if tag["description"]}
    operations = [operation for methods in WHOLE["paths"].values() for operation in methods.values()]
    assert known == {tag for operation in operations for tag in operation["tags"]}
    assert [each["operationId"] for each in operations if not each["description"]] == []
    parameters = [each for operation in operations for each in operation.get("parameters", ()) if each["in"] == "path"]
    assert [each for each in parameters if "null" in str(each["schema"])] == []
    assert [each for each in parameters if not each["required"]] == []
    assert WHOLE["servers"] == [{"url": "/"}]


def test_the_examples_of_tasks_are_those_of_the_executors() -> None:
    body = WHOLE["paths"]["/api/tasks/"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"]["sleep_executor"]["value"]["inputs"] == describe("sleep_executor")["example"]
    assert [name for name, each in body["examples"].items() if list(check_task(each["value"], "task"))] == []


def test_the_document_is_valid_and_refers_to_nothing_that_is_not_there() -> None:
    validate_schema(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemas = DOCUMENT["components"]["schemas"]
    assert references(DOCUMENT) <= {f"#/components/schemas/{name}" for name in schemas}
    for schema in schemas.values():
        jsonschema_rs.Draft202012Validator(schema | {"components": {"schemas": schemas}})


def test_every_route_is_in_the_document() -> None:
    expected = {
        ("/api/" + re.sub("<([a-z_]+)>", "{\\1}", route), method.lower())
        for route, methods in ROUTES.items()
        for method in methods
    }
    assert set(OPERATIONS) == expected
    assert len(urlpatterns) == len(ROUTES)
    for path, _ in OPERATIONS:
        assert resolve(re.sub("{[a-z_]+}", "a", path), "a2a.rest.views")
    others = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
    assert sorted(set(others) - set(OPERATIONS)) == OF_BYTES
    assert all(resolve(path.replace("{file_id}", "a")) for path, _ in OF_BYTES)


@pytest.mark.parametrize(("path", "method"), [*OPERATIONS, *OF_BYTES])
def test_every_operation_says_what_it_does_and_how_it_refuses(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["summary"].endswith(".")
    assert {"400", "401", "503"} < operation["responses"].keys()
    names_others = "_id}" in path or "flows/{" in path or "datasets/{name}" in path or (path, method) in NAME_OTHERS
    assert ("404" in operation["responses"]) == (names_others and (path, method) not in NEVER_MISSING)
    assert ({"413", "415"} < operation["responses"].keys()) == ("requestBody" in operation)


def test_names_of_operations_and_of_errors_are_unique() -> None:
    names = [DOCUMENT["paths"][path][method]["operationId"] for path, method in [*OPERATIONS, *OF_BYTES]]
    assert len(set(names)) == len(names)
    codes: dict[str, set[int]] = {}
    for rule in RULES.values():
        codes.setdefault(rule.name, set()).add(rule.http_status)
    assert all(len(statuses) == 1 for statuses in codes.values())


def test_a_token_is_asked_for_where_one_is_needed() -> None:
    guarded = openapi_document(with_authentication=True)
    assert (guarded["security"], "security" in DOCUMENT) == ([{"bearer": []}], False)
    assert guarded["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_what_is_published_of_a_new_task_is_what_is_checked() -> None:
    _, schemas = msgspec.json.schema_components([task_schemas.NewTask], ref_template="#/$defs/{name}")
    published = jsonschema_rs.Draft202012Validator({"$ref": "#/$defs/NewTask", "$defs": schemas})
    tasks = [{"name": "a", field: value} for field, value in product([*TASK_FIELDS, *AS_NEW, "unknown"], VALUES)]
    checked = [not list(check_task(without_empty(task), "task")) for task in tasks]
    assert [published.is_valid(task) for task in tasks] == checked
    assert any(checked) and not all(checked)
    assert not published.is_valid({}) and list(check_task({}, "task"))


def test_the_reference_names_every_operation() -> None:
    reference = (ROOT / "docs/reference/rest.md").read_text()
    named = re.findall(r"^\| `([A-Z]+) (/api/\S*)` \|", reference, re.MULTILINE)
    assert sorted(named) == sorted((method.upper(), path) for path, method in OPERATIONS)
    for rule in RULES.values():
        assert f"`{rule.name}`" in reference


@pytest.mark.both_engines_nightly
@pytest.mark.timeout(CHECKING_SECONDS + 60)
def test_schemathesis_finds_no_fault_of_the_server_and_no_untrue_schema(tmp_path: Path) -> None:
    """Each value that a schema distinguishes is sent once. The fields of a task have a test of their own, above."""
    ids = [DOCUMENT["paths"][path][method]["operationId"] for path, method in WITH_TREES]
    check_with_schemathesis(tmp_path, "coverage", without=ids)


@pytest.mark.nightly
@pytest.mark.both_engines
@pytest.mark.timeout(CHECKING_SECONDS + 60)
def test_schemathesis_finds_no_fault_with_whole_trees_random_requests_and_sequences(tmp_path: Path) -> None:
    check_with_schemathesis(tmp_path, "coverage", "fuzzing", "stateful")


def check_with_schemathesis(folder: Path, *phases: str, without: Sequence[str] = ()) -> None:
    config = ROOT / "tests/a2a/rest/schemathesis.toml"
    with new_database() as database_url, running_server(database_url) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", "--no-color"]
        excluded = [word for each in without for word in ("--exclude-operation-id", each)]
        found = subprocess.run(
            [*command, "--phases", ",".join(phases), *excluded, f"{server.url}/openapi.json"],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.a2a.rest.openapi_checks", "PYTHONPATH": str(ROOT)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CHECKING_SECONDS,
        )
        assert found.returncode == 0, found.stdout
        assert "internal error" not in server.log.read_text()
    assert re.search(rf"Tested: {len(OPERATIONS) + len(OF_BYTES) - len(without)}\n", found.stdout), found.stdout
    assert all(f"✅  {phase.capitalize()}" in found.stdout for phase in phases), found.stdout


def test_the_page_is_served_by_this_server_alone(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "http" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {link.removeprefix("/docs/") for link in links} == set(ASSETS)
    for link in links:
        asset = http.get(link)
        assert (asset.status_code, asset.headers["Content-Type"]) == (200, ASSETS[link.removeprefix("/docs/")])
        assert http.get(link, headers={"If-None-Match": asset.headers["ETag"]}).status_code == 304
    assert "/openapi.json" in http.get("/docs/start.js").text
    assert http.get("/docs/../secret").status_code == http.get("/docs/package.json").status_code == 404
    assert http.get("/openapi.json").json() == DOCUMENT
    assert http.post("/openapi.json").status_code == 405
