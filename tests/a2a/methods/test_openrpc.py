from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from a2a.core.errors import RULES
from a2a.core.jsonrpc import INTERNAL_ERROR
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.openrpc import openrpc_document
from a2a.methods.params import Nothing
from tests.a2a.conftest import Rpc

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    return openrpc_document({"/tasks": METHODS, "/system": SYSTEM_METHODS})


@pytest.fixture(scope="module")
def methods(document: Json) -> dict[str, Json]:
    return {method["name"]: method for method in document["methods"]}


@pytest.mark.parametrize("path", ["/tasks", "/system"])
def test_it_is_answered_at_both_addresses(rpc: Rpc, document: Json, path: str) -> None:
    assert rpc("rpc.discover", {}, path=path) == document


def test_it_is_made_once(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make it takes longer than anything else that a request does while the event loop waits."""
    rpc("rpc.discover", {})
    monkeypatch.delattr("a2a.methods.system.openrpc_document")
    assert rpc("rpc.discover", {})["openrpc"]


def test_on_the_root_address_it_is_a_message(rpc: Rpc, document: Json) -> None:
    assert rpc("rpc.discover", {}, path="/")["parts"] == [{"kind": "data", "data": document}]


def test_it_has_what_openrpc_requires(document: Json) -> None:
    assert document["openrpc"].startswith("1.3")
    assert document["info"].keys() >= {"title", "version"}
    assert {server["url"] for server in document["servers"]} == {"/tasks", "/system"}


def test_every_method_is_in_it_once(document: Json) -> None:
    names = [method["name"] for method in document["methods"]]
    assert names == sorted(METHODS.keys() | SYSTEM_METHODS.keys())


@pytest.mark.parametrize("name", sorted(METHODS.keys() | SYSTEM_METHODS.keys()))
def test_a_method_says_what_it_takes_gives_and_refuses(methods: dict[str, Json], name: str) -> None:
    method = methods[name]
    assert method["summary"].endswith(".")
    assert method["paramStructure"] == "by-name"
    assert all(param.keys() >= {"name", "required", "schema"} for param in method["params"])
    assert method["result"].keys() == {"name", "schema"}
    refusals = {kind.__name__ for kind, rule in RULES.items() if rule.code != INTERNAL_ERROR}
    named = {error["$ref"].rpartition("/")[2] for error in method["errors"]}
    assert named == refusals | {"InternalError"}
    kind = {**METHODS, **SYSTEM_METHODS}[name].params
    assert [param["name"] for param in method["params"]] == list(kind.__struct_fields__)
    assert method["params"] or kind is Nothing


def test_what_is_required_is_required(methods: dict[str, Json]) -> None:
    required = {name: [each["name"] for each in row["params"] if each["required"]] for name, row in methods.items()}
    assert {name for name, params in required.items() if params == ["task_id"]} == {
        "tasks.get", "tasks.detail", "tasks.tree", "tasks.children", "tasks.update", "tasks.delete", "tasks.copy", "tasks.clone",
        "tasks.fork", "tasks.scheduled.init", "tasks.scheduled.complete", "tasks.webhook.trigger",
    }  # fmt: skip
    assert required["tasks.create"] == ["tasks"]


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: Json) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for method in document["methods"]:
        for schema in (method["result"]["schema"], *(param["schema"] for param in method["params"])):
            Draft202012Validator.check_schema(schema)
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from references(item)


def test_answers_fit_their_schemas(rpc: Rpc, document: Json, methods: dict[str, Json]) -> None:
    task = rpc("tasks.create", {"tasks": [{"id": "r", "name": "r"}, {"name": "echo_executor", "parent_id": "r"}]})
    for name, answer in {
        "tasks.create": task,
        "tasks.detail": rpc("tasks.detail", {"id": task["id"]}),
        "tasks.list": rpc("tasks.list", {"cursor": ""}),
        "tasks.running.status": rpc("tasks.running.status", {"task_ids": [task["id"], "nowhere"]}),
        "tasks.copy": rpc("tasks.copy", {"task_id": task["id"], "save": False}),
        "system.health": rpc("system.health", {}, path="/system"),
    }.items():
        schema = methods[name]["result"]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(answer)
