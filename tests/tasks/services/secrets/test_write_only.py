"""Pages show no input that a schema marks as secret."""

from typing import Any

import pytest

from llmkeys.sealed_texts import is_sealed, opened
from tasks.models import Task
from tasks.services.secrets.write_only import for_pages, masked, sealed, sealed_inputs

SECRET = {"type": "string", "writeOnly": True}


@pytest.mark.parametrize(
    ("schema", "value", "shown"),
    [
        ({}, {"a": 1}, {"a": 1}),
        (True, {"a": 1}, {"a": 1}),
        (SECRET, "open sesame", "…"),
        (SECRET, {"not": "what it asks for"}, "…"),
        (SECRET, "{{ secret.token }}", "{{ secret.token }}"),
        (SECRET, "open {{secret.token}}", "…"),
        (SECRET, "{{other.token}}", "…"),
        ({"properties": {"a": SECRET}}, {"a": "open sesame", "b": 1}, {"a": "…", "b": 1}),
        ({"properties": {"a": SECRET}}, ["open sesame"], ["open sesame"]),
        ({"additionalProperties": SECRET}, {"X-Key": "open sesame"}, {"X-Key": "…"}),
        ({"properties": {"a": {}}, "additionalProperties": SECRET}, {"a": 1, "b": 2}, {"a": 1, "b": "…"}),
        ({"items": {"properties": {"a": SECRET}}}, [{"a": "open sesame"}, 1], [{"a": "…"}, 1]),
        ({"additionalProperties": False}, {"a": 1}, {"a": 1}),
    ],
)
def test_what_is_write_only_is_covered(schema: Any, value: Any, shown: Any) -> None:
    assert masked(value, schema) == shown


@pytest.mark.parametrize(
    ("value", "is_encrypted"),
    [("open sesame", True), ("", False), (7, False), (None, False), ("{{secret.token}}", False), ("a {{b.c}}", False)],
)
def test_texts_without_places_are_encrypted(value: Any, is_encrypted: bool) -> None:
    once = sealed({"a": value, "b": "clear"}, {"properties": {"a": SECRET}}, owner="ada")
    assert (is_sealed(once["a"]), once["b"]) == (is_encrypted, "clear")
    assert sealed(once, {"properties": {"a": SECRET}}, owner="ada") == once
    assert opened(once, owner="ada") == {"a": value, "b": "clear"}


def test_texts_in_lists_and_objects_are_encrypted_one_by_one() -> None:
    value = {"a": {"deep": ["x", {"y": "z"}, 1]}}
    once = sealed(value, {"properties": {"a": {"writeOnly": True}}}, owner="ada")
    assert [is_sealed(once["a"]["deep"][0]), is_sealed(once["a"]["deep"][1]["y"])] == [True, True]
    assert opened(once, owner="ada") == value


def test_prompts_and_groups_are_left() -> None:
    schemas = {"input_schema": {"properties": {"prompt": SECRET, "works": SECRET, "text": SECRET}}}
    for executor_id, field in (("llm_executor", "prompt"), (None, "text"), ("gone_executor", "text")):
        given = {field: "open sesame"}
        assert sealed_inputs(given, executor_id=executor_id, schemas=schemas, owner="ada") == given


def test_the_executor_and_the_task_say_what_is_secret() -> None:
    inputs = {"url": "https://example.com", "auth": {"basic": {"username": "ann", "password": "open sesame"}}, "pin": 1}
    task = Task(executor_id="rest_executor", schemas={"input_schema": {"properties": {"pin": {"writeOnly": True}}}})
    shown = {"url": "https://example.com", "auth": {"basic": {"username": "ann", "password": "…"}}, "pin": "…"}
    assert for_pages(task, inputs) == shown
    assert for_pages(Task(executor_id=None), inputs) == inputs


def test_an_executor_that_is_gone_cannot_say_what_is_secret() -> None:
    assert for_pages(Task(executor_id="gone_executor"), {"a": 1}) == "…"
