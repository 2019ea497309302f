"""Every setting: name, type, default, range, an example and a description. `make reference` writes the documentation from it.

The default of a setting without one depends on other settings: see `sources.Computed`.
"""

from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from apflow_site.config import values
from apflow_site.config.values import Allowed, Ports, Whole, is_loopback

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
        "127.0.0.1", description="The address to listen on; `0.0.0.0` means all addresses of the machine."
    )
    port: Whole = Field(8000, ge=0, le=65535, description="The port to listen on; 0 selects a free port.")
    workers: Whole = Field(
        1, ge=1, le=256, description="The number of web processes. Use PostgreSQL for more than one."
    )
    public_url: values.WebAddress | None = Field(
        None,
        examples=["https://flow.example.com"],
        description="The `http://` or `https://` URL that clients use; the agent card contains it.",
    )
    allowed_hosts: values.HostPatterns = Field(
        (),
        examples=[["flow.example.com"]],
        description="Host names that requests may be addressed to: `example.com`, `.example.com` (with all subdomains) or `*`. Loopback names and `server.host` are always allowed.",
    )
    examples: Literal["run", "store", "none"] = Field(
        "run",
        examples=["store"],
        description="What to store in an empty database: `run`, examples, most of which run immediately; `store`, examples without running them; `none`.",
    )
    data_dir: values.Folder = Field(
        examples=["~/.local/share/aipartnerupflow"],
        description="The folder for the SQLite file and generated keys. Default: `aipartnerupflow` in `$XDG_DATA_HOME`, or in `~/.local/share` if that is not set.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server, directly or by its public address."""
        public = urlsplit(self.public_url or "").hostname
        return is_loopback(self.host) and (public is None or is_loopback(public))


class Database(Section):
    url: values.DatabaseUrl = Field(
        examples=["postgresql://apflow:change-me@localhost:5432/apflow?sslmode=prefer"],
        description="`sqlite:///relative/path`, `sqlite:////absolute/path`, or `postgresql://user:password@host:5432/name` (also `postgres://`). Default: `aipartnerupflow.sqlite3` in the data folder.",
    )


class Auth(Section):
    enabled: bool | None = Field(
        None,
        examples=[True],
        description="Whether authentication is enabled. Default: enabled if there is a secret. `true` requires a secret.",
    )
    jwt_secret: values.Secret | None = Field(
        None,
        examples=["an-example-that-everybody-knows-so-make-your-own"],
        description='Signs the tokens (HS256). Generate one with `python -c "import secrets; print(secrets.token_urlsafe(48))"`. Preferably set it in the environment.',
    )
    required: bool = Field(False, description="Refuse to start without authentication.")
    access_minutes: Whole = Field(15, ge=1, le=1440, description="How many minutes an access token is valid.")
    refresh_days: Whole = Field(
        1, ge=1, le=365, description="How many days a login without a refresh, and a session of the dashboard, last."
    )

    @property
    def is_on(self) -> bool:
        """A secret enables authentication, unless `enabled` overrides it."""
        return self.jwt_secret is not None if self.enabled is None else self.enabled


class Redis(Section):
    url: values.RedisUrl | None = Field(
        None,
        examples=["redis://localhost:6379/0"],
        description="A `redis://`, `rediss://` or `unix://` URL. Not needed on one machine.",
    )


class Worker(Section):
    embedded: bool = Field(True, description="Whether `serve` starts and supervises a worker.")
    processes: Whole = Field(
        ge=1,
        le=256,
        examples=[2],
        description="The number of worker processes. Default: 1 on SQLite, which allows one writer at a time; on PostgreSQL one per processor, at most 4.",
    )
    max_trees: Whole = Field(1000, ge=1, le=10_000, description="Trees that run concurrently in one worker process.")
    max_tasks: Whole = Field(1000, ge=1, le=100_000, description="Tasks that run concurrently in one worker process.")
    drain_seconds: Whole = Field(
        30,
        ge=0,
        le=3600,
        description="How many seconds a worker that shuts down may take to finish its tasks. The rest goes back to the queue.",
    )
    metrics_port: Whole | None = Field(
        None,
        ge=1,
        le=65535,
        examples=[9464],
        description="The port for `GET /metrics` of `aipartnerupflow worker`, which otherwise opens no port, on the address `server.host`.",
    )


class Command(Section):
    allow: values.Programs = Field(
        (),
        examples=[["/usr/bin/git", "/usr/bin/pdftotext"]],
        description="Absolute paths of the programs that `command_executor` may run; if empty, the executor is disabled. See [Run commands](../how-to/run-commands.md).",
    )
    folders: values.Folders = Field(
        (),
        examples=[["/srv/documents"]],
        description="Absolute paths of folders. A task may use one of them, or a folder below one, as its working directory.",
    )
    timeout_seconds: Whole = Field(
        30,
        ge=1,
        le=WEEK_SECONDS,
        description="The longest time for one command, in seconds. A task may set a shorter one.",
    )
    output_bytes: Whole = Field(
        MIB,
        ge=KIB,
        le=GIB,
        description="The size of a command's output, standard output and error together. `limits.result_bytes` also applies.",
    )
    cpu_seconds: Whole = Field(
        60, ge=1, le=WEEK_SECONDS, description="Processor time for each process of a command, in seconds."
    )
    memory_bytes: Whole = Field(
        4 * GIB, ge=64 * MIB, le=PIB, description="Address space for each process of a command. Linux only."
    )
    processes: Whole = Field(
        64, ge=1, le=10_000, description="Processes that a command may have at a time. Linux only."
    )
    file_bytes: Whole = Field(64 * MIB, ge=0, le=PIB, description="The size of each file that a command writes.")


class Crewai(Section):
    tools: values.Tools | None = Field(
        None,
        examples=[{"search": "my_company.tools.SearchTool"}],
        description="Tools that crews may use: a name and the dotted path of a subclass of CrewAI's `BaseTool`, or of a function marked with `@tool`. See [Language models and crews](../how-to/llm.md#run-a-crew).",
    )
    max_crews: Whole = Field(
        32, ge=1, le=1000, description="Crews that run concurrently in one worker process. Each uses a thread."
    )


class Rest(Section):
    allow_private: values.Targets = Field(
        (),
        examples=[["10.1.0.0/16", "wiki.internal"]],
        description="Host names, addresses or networks (`10.1.0.0/16`) that outbound requests may reach although they are private.",
    )
    allowed_ports: Ports = Field((80, 443), description="Ports that outbound requests may reach.")


class Executors(Section):
    modules: values.ModuleNames = Field((), description="Dotted names of modules that define your own executors.")
    command: Command = Command()
    crewai: Crewai = Crewai()
    rest: Rest = Rest()


class Webhooks(Section):
    allow_private: bool = Field(
        False, description="Whether webhooks may use private addresses, on any port. For development."
    )
    allowed_ports: Ports = Field((80, 443), description="Ports of public addresses that webhooks may use.")
    keep_hours: Whole = Field(
        24, ge=1, le=30 * 24, description="How many hours after an event its delivery is retried."
    )
    timeout_seconds: Whole = Field(10, ge=1, le=120, description="How many seconds to wait for a receiver's answer.")
    max_per_run: Whole = Field(10, ge=1, le=1000, description="Webhooks per run.")


class Llm(Section):
    encryption_keys: values.EncryptionKeys = Field(
        (),
        examples=[["another-example-that-everybody-knows-so-make-your-own"]],
        description="Strings of at least 32 characters that encrypt stored keys, the newest first. Default: a generated key in the file `llm_key` in the data folder. All machines need the same keys. Preferably set them in the environment. See [LLM keys](../how-to/llm-keys.md#encryption-keys).",
    )
    key_store: Literal["database", "redis", "memory"] = Field(
        "database",
        description="Where users' keys are stored, encrypted: `database`, `redis` (requires `redis.url`) or `memory` (of one process; for tests).",
    )
    default_model: values.Model | None = Field(
        None,
        examples=["openai/gpt-4o-mini"],
        description="The model for tasks that name none, such as `openai/gpt-4o-mini`.",
    )
    demo: bool = Field(
        True,
        description="Whether the model `demo/demo` is available. It returns canned answers and needs no key and no network.",
    )
    environment_keys: bool = Field(
        True,
        description="Whether users without a key of their own may use those of the server's environment, such as `OPENAI_API_KEY`.",
    )
    api_base: values.WebAddresses | None = Field(
        None,
        examples=[{"ollama": "http://localhost:11434"}],
        description="URLs to use instead of a provider's own: `{openai: https://llm.example.com/v1}`, in the environment `openai=https://llm.example.com/v1,ollama=http://localhost:11434`. All keys for that provider are sent there.",
    )


class Events(Section):
    keep_days: Whole = Field(
        30,
        ge=0,
        le=36_500,
        description="How many days to keep the events of a finished run; 0 keeps them forever. Tasks and their results are kept.",
    )


class Limits(Section):
    body_bytes: Whole = Field(10 * MIB, ge=KIB, le=GIB, description="The size of a request body.")
    nesting: Whole = Field(64, ge=8, le=200, description="The nesting depth of the JSON in a request.")
    batch: Whole = Field(100, ge=1, le=10_000, description="Calls in one JSON-RPC batch.")
    tasks_per_tree: Whole = Field(10_000, ge=1, le=1_000_000, description="Tasks in one tree.")
    tree_depth: Whole = Field(100, ge=1, le=100, description="Levels of a tree.")
    result_bytes: Whole = Field(MIB, ge=KIB, le=GIB, description="The size of one task's result as JSON.")
    runs_per_user: Whole = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Queued and running runs of one user. Does not apply without authentication.",
    )
    streams: Whole = Field(
        2000, ge=1, le=1_000_000, description="Open WebSockets and event streams in one web process."
    )
    streams_per_user: Whole = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Open WebSockets and event streams of one user in one web process. Does not apply without authentication.",
    )
    messages_per_second: Whole = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Messages per second that a client may send on one WebSocket; a burst may have twice as many.",
    )


class A2a(Section):
    card: Annotated[Literal["hybrid", "1.0", "0.3"], Allowed('hybrid, "1.0" or "0.3" (in quotes)')] = Field(
        "hybrid",
        description='The fields of the agent card: those of A2A `"1.0"`, of `"0.3"` (both in quotes), or of both (`hybrid`). See [A2A](a2a.md).',
    )
    message_handler: values.FunctionName = Field(
        "a2a.protocol.message_handler.decide",
        description="The dotted path of the function that decides what a message does. See [A2A](../how-to/a2a.md#write-a-message-handler).",
    )
    text_executor: values.ExecutorId | None = Field(
        None,
        examples=["echo_executor"],
        description="The executor for plain text messages. Default: the agent asks the client what to run.",
    )
    streaming: bool = Field(True, description="Whether A2A's own methods support streaming and the card declares it.")
    push_notifications: bool = Field(True, description="Whether clients may use push notifications.")
    extended_card: bool | None = Field(
        None,
        examples=[True],
        description="Whether users who have logged in get a card with their own trees as skills. Default: the value of `auth.enabled`.",
    )
    required_extensions: values.Uris = Field(
        (), description="URIs of extensions that a client must declare in `A2A-Extensions`."
    )
    signing_key: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/card-key.pem"],
        description="The path of a private key in PEM (P-256) that signs the card. Generate one with `openssl ecparam -genkey -name prime256v1 -noout -out card-key.pem`.",
    )
    grpc_port: Whole | None = Field(
        None,
        ge=1,
        le=65535,
        examples=[50051],
        description="The port for A2A over gRPC, on `server.host`; requires the extra `[grpc]`. Default: no gRPC. The flag `--grpc-port` of `serve` sets it too.",
    )
    grpc_certificate: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/grpc.pem"],
        description="The path of the certificate (chain) in PEM for TLS over gRPC. Without it, gRPC is unencrypted: put a proxy with TLS in front.",
    )
    grpc_key: values.PemFile | None = Field(
        None,
        examples=["/etc/aipartnerupflow/grpc-key.pem"],
        description="The path of the certificate's private key in PEM.",
    )


class Log(Section):
    format: Literal["text", "json"] = Field(
        "text",
        examples=["json"],
        description="`text`, lines for people, or `json`, one object per line. Both contain the ids of the request, run and task, and go to standard error.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level of the server's own messages: `debug`, `info`, `warning` or `error`."
    )
    requests: bool = Field(
        False, examples=[True], description="Whether to log a line for each request: method, route, status, time."
    )


class Config(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: Server
    database: Database
    auth: Auth = Auth()
    redis: Redis = Redis()
    worker: Worker
    executors: Executors = Executors()
    webhooks: Webhooks = Webhooks()
    llm: Llm = Llm()
    events: Events = Events()
    limits: Limits = Limits()
    a2a: A2a = A2a()
    log: Log = Log()

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
        """Whether other machines reach the server without authentication."""
        return not self.auth.is_on and not self.server.is_local
