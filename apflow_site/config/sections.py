"""All settings by section. `make reference` writes the documentation from the declarations.

A setting has a type, a default, a range, a description, and an example if the default is not a good one. The default
of a setting without one depends on other settings: see `sources.Computed`.
"""

from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field, StringConstraints
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from apflow_site.config.features import A2a, Email, Executors, Llm, Mcp, Webhooks
from apflow_site.config.operation import (
    Auth,
    Cache,
    Database,
    Events,
    Files,
    Limits,
    Log,
    Redis,
    Retention,
    Server,
    Telemetry,
    Worker,
)
from apflow_site.config.values import Allowed, ExecutorId, Percentages, Section, Split, SplitPairs, Whole

PIB_IN_MIB = 2**30

ClusterAddress = Annotated[
    str,
    StringConstraints(pattern=r"^(auto|[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})$"),
    Allowed("host:port, or auto"),
]
ExecutorPools = Annotated[
    dict[ExecutorId, Literal["loop", "thread", "process", "ray"]],
    SplitPairs,
    Allowed(
        "a mapping of executor ids and loop, thread, process or ray (in the environment: name=value, separated by commas)"
    ),
]
VariableNames = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]*\*?|\*)$")], ...],
    Split,
    Allowed("a list of names of environment variables, which may end with *"),
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
    processes: Whole = Field(
        64,
        ge=0,
        le=10_000,
        description="Processes that a task may have at a time besides its own, with all that they start. They count for its memory, and those that are left at its end are killed. Linux only.",
    )
    environment: VariableNames = Field(
        (),
        examples=[["SERPER_API_KEY", "HTTPS_PROXY", "MY_COMPANY_*"]],
        description="Variables of the server's environment that these processes get, besides those that Python and the settings of executors need: names, or the beginnings of names with `*`. A pattern never gives settings of the server, a name does. See [Where tasks run](../how-to/pools.md#the-environment-of-a-process).",
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


class Ray(Section):
    address: ClusterAddress | None = Field(
        None,
        examples=["10.1.0.5:6379"],
        description="`host:port` of the head of a Ray cluster, or `auto` for the one of this machine. Each machine with workers must be a node of it, which may offer no resources. Requires the extra `[ray]`. Default: no Ray.",
    )
    size: Whole = Field(
        100,
        ge=1,
        le=100_000,
        description="Tasks that one worker process has in Ray at a time, running or waiting there.",
    )
    cpus: Whole = Field(
        64,
        ge=1,
        le=10_000,
        description="The most processors that a task may reserve in Ray; without `params.resources.cpus` it reserves one.",
    )
    gpus: Whole = Field(0, ge=0, le=10_000, examples=[4], description="The most GPUs that a task may reserve in Ray.")
    memory_mb: Whole = Field(
        65_536, ge=16, le=PIB_IN_MIB, description="The most memory, in MB, that a task may reserve in Ray."
    )


class Pools(Section):
    executors: ExecutorPools | None = Field(
        None,
        examples=[{"python_executor": "thread"}],
        description="Where executors run when the task does not say it with `params.pool`: their ids, and `loop`, `thread`, `process` or `ray`. See [Where tasks run](../how-to/pools.md).",
    )
    process: Process
    ray: Ray = Ray()


class Config(BaseSettings, Section):
    """The whole configuration."""

    _mask_wrapped: ClassVar = True
    """A marker for Django, which asks for it at each `settings.APFLOW`. A name that pydantic does not find takes it ten times as long."""

    server: Server
    database: Database
    auth: Auth = Auth()
    redis: Redis = Redis()
    worker: Worker
    shares: Percentages | None = Field(
        None,
        examples=[{"alice": 100, "nightly-batch": 25}],
        description="Users who may hold more or less of a worker process than `worker.user_share`: their names, exactly as they log in, and percentages from 1 to 100. Does not apply without authentication. See [Shares of users](../how-to/operate.md#shares-of-users).",
    )
    pools: Pools
    executors: Executors = Executors()
    webhooks: Webhooks = Webhooks()
    email: Email = Email()
    llm: Llm = Llm()
    events: Events = Events()
    retention: Retention = Retention()
    cache: Cache = Cache()
    files: Files = Files()
    limits: Limits = Limits()
    a2a: A2a = A2a()
    mcp: Mcp = Mcp()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()

    def __init__(self, *sources: PydanticBaseSettingsSource) -> None:
        """Merge the sources; the first one wins. Raises pydantic.ValidationError."""
        super().__init__(sources=sources)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources that `__init__` gets, instead of the built-in ones, which do not report where a value comes from."""
        given = cast("InitSettingsSource", init_settings).init_kwargs
        return cast("tuple[PydanticBaseSettingsSource, ...]", given["sources"])

    def share_of(self, user_id: str = "") -> int:
        """Return the percentage of a worker process that the user may hold, or one without a share of its own."""
        return (self.shares or {}).get(user_id, self.worker.user_share) if self.auth.is_on else 100

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the server without authentication."""
        return not self.auth.is_on and not self.server.is_local
