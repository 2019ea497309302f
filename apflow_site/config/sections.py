"""Every setting: its name, its type and range, its default and what it means. The reference is written from this table.

A setting without a default here has one that depends on other settings (`sources.Computed`).
"""

from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from apflow_site.config import values
from apflow_site.config.values import Allowed, Port, Ports, Whole, is_loopback

KIB, MIB, GIB, PIB = 2**10, 2**20, 2**30, 2**50
WEEK_SECONDS = 7 * 86_400


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Without values: some are secret, and a repr ends up in logs."""
        return []


class Server(Section):
    host: values.Host = Field(
        "127.0.0.1", description="Address to listen on; `0.0.0.0` is every address of the machine."
    )
    port: Whole = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: Whole = Field(1, ge=1, le=256, description="Web processes. More than one needs PostgreSQL.")
    public_url: values.WebAddress | None = Field(
        None,
        examples=["https://flow.example.com"],
        description="The `http://` or `https://` address at which clients reach the server; the agent card has it.",
    )
    allowed_hosts: values.HostPatterns = Field(
        (),
        examples=[["flow.example.com"]],
        description="Host names that requests may use: `example.com`, `.example.com` (and all its subdomains) or `*`. "
        "Loopback names and `server.host` are always allowed.",
    )
    examples: Literal["run", "store", "none"] = Field(
        "run",
        examples=["store"],
        description="Examples that an empty database gets: `run` stores them and runs most of them; `store` only "
        "stores them; `none`.",
    )
    data_dir: values.Folder = Field(
        examples=["~/.local/share/aipartnerupflow"],
        description="Folder for the SQLite file and generated keys. Default: `aipartnerupflow` in `$XDG_DATA_HOME`, or "
        "in `~/.local/share` where that is not set.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server, directly or by its public address."""
        public = urlsplit(self.public_url or "").hostname
        return is_loopback(self.host) and (public is None or is_loopback(public))


class Database(Section):
    url: values.DatabaseUrl = Field(
        examples=["postgresql://apflow:change-me@localhost:5432/apflow?sslmode=prefer"],
        description="`sqlite:///relative/path`, `sqlite:////absolute/path`, or "
        "`postgresql://user:password@host:5432/name` (also `postgres://`). Default: `aipartnerupflow.sqlite3` in the "
        "data folder.",
    )


class Auth(Section):
    enabled: bool | None = Field(
        None,
        examples=[True],
        description="Authentication on or off. Without it, a secret turns authentication on. `true` needs a secret.",
    )
    jwt_secret: values.Secret | None = Field(
        None,
        examples=["an-example-that-everybody-knows-so-make-your-own"],
        description="Signs the tokens (HS256). Make one with "
        '`python -c "import secrets; print(secrets.token_urlsafe(48))"`.',
    )
    required: bool = Field(False, description="Refuse to start while authentication is off.")
    access_minutes: Whole = Field(15, ge=1, le=1440, description="Minutes until an access token expires.")
    refresh_days: Whole = Field(
        1, ge=1, le=365, description="Days until a login that is not refreshed, or a session of the dashboard, expires."
    )

    @property
    def is_on(self) -> bool:
        """A secret switches authentication on, unless `enabled` says otherwise."""
        return self.jwt_secret is not None if self.enabled is None else self.enabled


class Redis(Section):
    url: values.RedisUrl | None = Field(
        None,
        examples=["redis://localhost:6379/0"],
        description="`redis://`, `rediss://` or `unix://` URL. Not needed on one machine.",
    )


class Worker(Section):
    embedded: bool = Field(True, description="`serve` starts and watches a worker of its own.")
    processes: Whole = Field(
        ge=1,
        le=256,
        examples=[2],
        description="Worker processes. Default: 1 on SQLite, which has one writer at a time; on PostgreSQL one per "
        "processor, at most 4.",
    )
    max_trees: Whole = Field(1000, ge=1, le=10_000, description="Trees that run at once in one worker process.")
    max_tasks: Whole = Field(1000, ge=1, le=100_000, description="Tasks that run at once in one worker process.")
    drain_seconds: Whole = Field(
        30, ge=0, le=3600, description="Time to finish work after a stop signal. Unfinished work returns to the queue."
    )
    metrics_port: Port | None = Field(
        None,
        examples=[9464],
        description="Port on which `aipartnerupflow worker` answers `GET /metrics` for Prometheus, at the address "
        "`server.host`. None: no metrics.",
    )


class Command(Section):
    allow: values.Programs = Field(
        (),
        examples=[["/usr/bin/git", "/usr/bin/pdftotext"]],
        description="Absolute paths of the programs that `command_executor` may run; without one it is off. See "
        "[Run commands](../how-to/run-commands.md).",
    )
    folders: values.Folders = Field(
        (),
        examples=[["/srv/documents"]],
        description="Absolute paths of folders. A task may name one of them, or a folder in it, as its working directory.",
    )
    timeout_seconds: Whole = Field(
        30, ge=1, le=WEEK_SECONDS, description="Longest time for one command. A task may ask for less."
    )
    output_bytes: Whole = Field(
        MIB,
        ge=KIB,
        le=GIB,
        description="Longest output of a command, standard output and error together. `limits.result_bytes` applies as well.",
    )
    cpu_seconds: Whole = Field(60, ge=1, le=WEEK_SECONDS, description="Processor time for each process of a command.")
    memory_bytes: Whole = Field(
        4 * GIB, ge=64 * MIB, le=PIB, description="Address space for each process of a command. Linux only."
    )
    processes: Whole = Field(64, ge=1, le=10_000, description="Processes that a command may have at once. Linux only.")
    file_bytes: Whole = Field(64 * MIB, ge=0, le=PIB, description="Size of each file that a command writes.")


class Crewai(Section):
    tools: values.Tools | None = Field(
        None,
        examples=[{"search": "my_company.tools.SearchTool"}],
        description="Tools that crews may name, and the dotted path of each: a subclass of CrewAI's `BaseTool`, or a "
        "function marked with `@tool`. See [Language models and crews](../how-to/llm.md).",
    )
    max_crews: Whole = Field(
        32, ge=1, le=1000, description="Crews that run at once in one worker process; each takes a thread."
    )


class Rest(Section):
    allow_private: values.Targets = Field(
        (),
        examples=[["10.1.0.0/16", "wiki.internal"]],
        description="Host names, addresses or networks (`10.1.0.0/16`) that outbound requests may reach although they "
        "are private.",
    )
    allowed_ports: Ports = Field((80, 443), description="Ports that outbound requests may reach.")


class Executors(Section):
    modules: values.ModuleNames = Field((), description="Dotted names of modules that define executors of yours.")
    command: Command = Command()
    crewai: Crewai = Crewai()
    rest: Rest = Rest()


class Webhooks(Section):
    allow_private: bool = Field(
        False, description="Whether webhooks may lead to private addresses, on any port: for development."
    )
    allowed_ports: Ports = Field((80, 443), description="Ports of public addresses that webhooks may lead to.")
    keep_hours: Whole = Field(
        24, ge=1, le=30 * 24, description="Hours for which the server retries an event that is not delivered."
    )
    timeout_seconds: Whole = Field(10, ge=1, le=120, description="Time for a receiver to answer.")
    max_per_run: Whole = Field(10, ge=1, le=1000, description="Webhooks that one run may have.")


class Llm(Section):
    encryption_keys: values.EncryptionKeys = Field(
        (),
        examples=[["another-example-that-everybody-knows-so-make-your-own"]],
        description="Texts of at least 32 characters that encrypt stored keys, the newest first. Without one: a "
        "generated key in the file `llm_key` in the data folder. Several machines need the same. See "
        "[LLM keys](../how-to/llm-keys.md).",
    )
    key_store: Literal["database", "redis", "memory"] = Field(
        "database",
        description="Store for the keys of users, encrypted: `database`, `redis` (needs `redis.url`) or `memory` (of "
        "one process; for tests).",
    )
    default_model: values.Model | None = Field(
        None,
        examples=["openai/gpt-4o-mini"],
        description="Model of tasks that name none, such as `openai/gpt-4o-mini`.",
    )
    demo: bool = Field(
        True,
        description="Whether there is the model `demo/demo`, which needs neither key nor network, and understands nothing.",
    )
    environment_keys: bool = Field(
        True,
        description="Whether a user without a key of their own may use those of the server's environment, such as "
        "`OPENAI_API_KEY`.",
    )
    api_base: values.WebAddresses | None = Field(
        None,
        examples=[{"ollama": "http://localhost:11434"}],
        description="Addresses to use instead of a provider's own: `{openai: https://llm.example.com/v1}`, in the "
        "environment `openai=https://llm.example.com/v1,ollama=http://localhost:11434`. All keys for that provider go there.",
    )


class Events(Section):
    keep_days: Whole = Field(
        30,
        ge=0,
        le=36_500,
        description="Days to keep the events of a finished run; 0 keeps them for ever. Tasks and their results stay.",
    )


class Limits(Section):
    body_bytes: Whole = Field(10 * MIB, ge=KIB, le=GIB, description="Size of a request's body.")
    nesting: Whole = Field(64, ge=8, le=200, description="Depth of the JSON in a request.")
    batch: Whole = Field(100, ge=1, le=10_000, description="Calls in one JSON-RPC batch.")
    tasks_per_tree: Whole = Field(10_000, ge=1, le=1_000_000, description="Tasks in one tree.")
    tree_depth: Whole = Field(100, ge=1, le=100, description="Levels of a tree.")
    result_bytes: Whole = Field(MIB, ge=KIB, le=GIB, description="Size of one task's result as JSON.")
    runs_per_user: Whole = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Runs of one user that wait or work. Not applied without authentication, which tells users apart.",
    )
    streams: Whole = Field(
        2000, ge=1, le=1_000_000, description="Open WebSockets and event streams of one web process."
    )
    streams_per_user: Whole = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Open WebSockets and event streams of one user in one web process. Not applied without "
        "authentication, which tells users apart.",
    )
    messages_per_second: Whole = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Messages that a client may send on one WebSocket; twice as many at once.",
    )


class A2a(Section):
    card: Annotated[Literal["hybrid", "1.0", "0.3"], Allowed('hybrid, "1.0" or "0.3" (in quotes)')] = Field(
        "hybrid",
        description='The fields of the agent card: those of A2A `"1.0"`, of `"0.3"` (both in quotes), or of both '
        "(`hybrid`). See [A2A](a2a.md).",
    )
    message_handler: values.FunctionName = Field(
        "a2a.protocol.message_handler.decide",
        description="Dotted path of the function that decides what a message means. See [A2A](../how-to/a2a.md).",
    )
    text_executor: values.ExecutorId | None = Field(
        None,
        examples=["echo_executor"],
        description="Executor for plain text. Without one, the server asks a client that sends only text what to run.",
    )
    streaming: bool = Field(True, description="Whether A2A's own methods stream, and the card says so.")
    push_notifications: bool = Field(True, description="Whether clients may have push notifications.")
    extended_card: bool | None = Field(
        None,
        examples=[True],
        description="Whether users who have logged in get a card with their own trees as skills. None: as `auth.enabled`.",
    )
    required_extensions: values.Uris = Field(
        (), description="URIs of extensions that a client must support, and name in `A2A-Extensions`."
    )
    signing_key: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/card-key.pem"],
        description="Path of a private key in PEM (P-256) that signs the card.",
    )
    grpc_port: Port | None = Field(
        None,
        examples=[50051],
        description="Port for A2A over gRPC, on `server.host`; needs the extra `[grpc]`. None: no gRPC. Flag "
        "`--grpc-port` of `serve`.",
    )
    grpc_certificate: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/grpc.pem"],
        description="Path of the certificate (chain) in PEM for gRPC over TLS. Without it, gRPC is in plain text.",
    )
    grpc_key: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/grpc-key.pem"],
        description="Path of the certificate's private key in PEM.",
    )


class Log(Section):
    format: Literal["text", "json"] = Field(
        "text",
        examples=["json"],
        description="`text`, lines for people; `json`, one object a line. Both have the ids of the request, run and "
        "task, and go to standard error.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of this server's own log lines: `debug`, `info`, `warning` or `error`."
    )
    requests: bool = Field(False, examples=[True], description="A line for each request: method, route, status, time.")


class Config(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: Server
    database: Database
    auth: Auth = Auth()
    redis: Redis = Redis()
    worker: Worker
    executors: Executors = Executors()
    llm: Llm = Llm()
    webhooks: Webhooks = Webhooks()
    events: Events = Events()
    limits: Limits = Limits()
    log: Log = Log()
    a2a: A2a = A2a()

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
        """The sources that `__init__` gets, instead of the built-in ones, which do not report where a value comes from."""
        sources: tuple[PydanticBaseSettingsSource, ...] = cast("InitSettingsSource", init_settings).init_kwargs[
            "sources"
        ]
        return sources

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []

    @property
    def is_open(self) -> bool:
        """Whether others than this machine reach the server, and nobody is asked who they are."""
        return not self.auth.is_on and not self.server.is_local
