"""The settings of pools: where the work of tasks runs."""

from typing import Annotated, Literal

from pydantic import Field

from apflow_site.config.values import Allowed, ExecutorId, Section, SplitPairs, Whole

PIB_IN_MIB = 2**30

ExecutorPools = Annotated[
    dict[ExecutorId, Literal["loop", "thread", "process"]],
    SplitPairs,
    Allowed(
        "a mapping of executor ids and loop, thread or process (in the environment: name=value, separated by commas)"
    ),
]


class Process(Section):
    size: Whole = Field(
        ge=0,
        le=1000,
        examples=[8],
        description="Tasks that run at a time in processes of their own, per worker process; 0 turns the pool off, and what runs there by default runs in the worker process. Default: one for each 512 MB of the machine's memory, shared between the worker processes, from 2 to 32.",
    )
    cpus: Whole = Field(
        ge=1,
        le=10_000,
        examples=[4],
        description="Processors that tasks of one worker process can reserve together with `params.resources.cpus`. Default: those of the machine.",
    )
    memory_mb: Whole = Field(
        ge=16,
        le=PIB_IN_MIB,
        examples=[2048],
        description="The most memory, in MB, that a task may take in its process, beyond what the process needs itself; `params.resources.memory_mb` may set less. Linux only. Default: half of the machine's memory.",
    )
    idle_seconds: Whole = Field(
        300,
        ge=1,
        le=86_400,
        description="After how many idle seconds a process ends. The next task then waits for a new one.",
    )
    max_tasks: Whole = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="After how many tasks a process is replaced, because of what they leave behind.",
    )
    recycle_mb: Whole = Field(
        256, ge=1, le=PIB_IN_MIB, description="A process is replaced when it has grown by more than this many MB."
    )


class Pools(Section):
    executors: ExecutorPools | None = Field(
        None,
        examples=[{"python_executor": "thread"}],
        description="Where executors run when the task does not say it with `params.pool`: their ids, and `loop`, `thread` or `process`. See [Where tasks run](../how-to/pools.md).",
    )
    process: Process
