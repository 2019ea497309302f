"""Pages show no input that a schema marks as secret."""

from typing import Any

import pytest

from tasks.models import Task
from tasks.services.write_only import for_pages, masked

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


def test_the_executor_and_the_task_say_what_is_secret() -> None:
    inputs = {"url": "https://example.com", "auth": {"basic": {"username": "ann", "password": "open sesame"}}, "pin": 1}
    task = Task(executor_id="rest_executor", schemas={"input_schema": {"properties": {"pin": {"writeOnly": True}}}})
    shown = {"url": "https://example.com", "auth": {"basic": {"username": "ann", "password": "…"}}, "pin": "…"}
    assert for_pages(task, inputs) == shown
    assert for_pages(Task(executor_id=None), inputs) == inputs


def test_an_executor_that_is_gone_cannot_say_what_is_secret() -> None:
    assert for_pages(Task(executor_id="gone_executor"), {"a": 1}) == "…"
