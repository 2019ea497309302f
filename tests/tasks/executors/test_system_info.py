import asyncio
import threading
from typing import Any

import orjson
import psutil
import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context
from tasks.executors.system_info import SystemInfo


@pytest.mark.parametrize(
    ("inputs", "resources"),
    [
        ({}, {"cpu", "memory", "disk"}),
        ({"resource": "all"}, {"cpu", "memory", "disk"}),
        ({"resource": "cpu"}, {"cpu"}),
        ({"resource": "memory"}, {"memory"}),
        ({"resource": "disk"}, {"disk"}),
    ],
)
async def test_the_resource_asked_for_is_told(inputs: dict[str, Any], resources: set[str], context: Context) -> None:
    result = await SystemInfo().execute(inputs, context)
    assert set(result) == resources
    assert orjson.loads(orjson.dumps(result)) == result


async def test_the_figures_are_those_of_a_real_machine(context: Context) -> None:
    info = await SystemInfo().execute({}, context)
    assert info["cpu"]["logical_count"] >= 1
    assert 0 <= info["cpu"]["used_percent"] <= 100
    assert 0 < info["memory"]["available_bytes"] <= info["memory"]["total_bytes"]
    assert 0 < info["disk"]["used_bytes"] + info["disk"]["free_bytes"] <= info["disk"]["total_bytes"]


async def test_the_loop_is_not_blocked_while_the_processor_is_measured(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def measured_after_the_gate(**_: float) -> float:
        begun.set()
        assert gate.wait(60)
        return 1.0

    monkeypatch.setattr(psutil, "cpu_percent", measured_after_the_gate)
    measuring = asyncio.create_task(SystemInfo().execute({"resource": "cpu"}, context))
    while not begun.is_set():  # noqa: ASYNC110  (the loop has to turn meanwhile)
        await asyncio.sleep(0)
    gate.set()
    await measuring


@pytest.mark.parametrize("resource", ["gpu", "", None, 1, ["cpu"], "CPU"])
def test_another_resource_does_not_fit_the_schema(resource: Any) -> None:
    assert not Draft202012Validator(SystemInfo.input_schema).is_valid({"resource": resource})
