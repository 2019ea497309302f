"""Figures of the host that runs the task."""

import asyncio
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

import psutil

from aipartnerupflow.executors import Context, Executor, Json

CPU_SAMPLE_SECONDS = 0.1


def cpu() -> Json:
    """Return counts, load, and usage during a sample of 0.1 s; null if the system does not report
    it.
    """
    frequency = psutil.cpu_freq()
    return {
        "logical_count": psutil.cpu_count(),
        "physical_count": psutil.cpu_count(logical=False),
        "used_percent": psutil.cpu_percent(interval=CPU_SAMPLE_SECONDS),
        "frequency_mhz": frequency.current if frequency else None,
        "load_average_1_minute": psutil.getloadavg()[0],
    }


def memory() -> Json:
    main, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "total_bytes": main.total,
        "available_bytes": main.available,
        "used_percent": main.percent,
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
    }


def disk() -> Json:
    """Return the usage of the file system that contains the root folder."""
    usage = psutil.disk_usage(os.sep)
    return {
        "total_bytes": usage.total,
        "used_bytes": usage.used,
        "free_bytes": usage.free,
        "used_percent": usage.percent,
    }


RESOURCES: Mapping[str, Callable[[], Json]] = MappingProxyType({"cpu": cpu, "memory": memory, "disk": disk})


class SystemInfo(Executor):
    """Returns the figures of one resource, or of all, by name."""

    id = "system_info_executor"
    name = "System information"
    description = "Returns the CPU, memory and disk capacity and usage of the worker's machine."
    tags = ("core", "monitoring")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "resource": {"enum": [*RESOURCES, "all"], "default": "all", "description": "The resource to measure"}
        },
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            name: {"type": "object", "description": f"The figures of {name}, if they were asked for"}
            for name in RESOURCES
        },
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"resource": "cpu"}
    example_result: ClassVar[Json] = {"cpu": {"logical_count": 8, "used_percent": 12.5, "load_average_1_minute": 0.7}}

    async def execute(self, inputs: Json, context: Context) -> Json:
        resource = inputs.get("resource", "all")
        names = list(RESOURCES) if resource == "all" else [resource]
        return {name: await asyncio.to_thread(RESOURCES[name]) for name in names}
