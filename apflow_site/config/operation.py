"""The settings of the server, its database and its workers, and the limits."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from apflow_site.config import values
from apflow_site.config.values import Section, Whole, is_loopback
from apflow_site.databases import CONNECT_SECONDS

KIB, MIB, GIB = 2**10, 2**20, 2**30


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
    allowed_origins: values.Origins | None = Field(
        None,
        examples=[["https://app.example.com"]],
        description="Origins of web pages that may call the server besides its own: `https://app.example.com`, `http://localhost:*` (any port) or, only without authentication, `*`. Pages, forms and the admin are never included. Default: any port of `http://localhost` and `http://127.0.0.1` while only this machine reaches the server and authentication is off; otherwise none.",
    )
    trusted_proxies: values.Proxies | None = Field(
        None,
        examples=[["127.0.0.1", "10.1.0.0/16"]],
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Their connections are not counted by address. Default: the value of uvicorn's variable `FORWARDED_ALLOW_IPS`, or none.",
    )
    examples: Literal["run", "store", "none"] = Field(
        "run",
        examples=["store"],
        description="The content of an empty database: `run`, examples, most of which run immediately; `store`, examples without running them; `none`.",
    )
    drain_seconds: Whole = Field(
        0,
        ge=0,
        le=3600,
        examples=[10],
        description="Seconds for which the server still serves requests after SIGTERM, while `GET /ready` returns 503, so that a load balancer stops sending them. Ctrl+C does not wait. See [Restart without downtime](../how-to/deploy.md#restart-without-downtime).",
    )
    debuggers: bool = Field(
        False,
        description="Whether debuggers and profilers of the server's own user, such as gdb and py-spy, may read its processes, and the system may write core dumps of them. Any other program of this user can then read the secrets of the server, too.",
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

    sqlite_synchronous: Literal["normal", "full"] = Field(
        "normal",
        description="Whether each commit on SQLite waits until the disk has it. Nothing is lost when a process is killed. In a power cut, `full` loses nothing, and `normal` may lose the last commits, although their requests were answered. PostgreSQL has settings of its own.",
    )
    connect_seconds: Whole = Field(
        CONNECT_SECONDS, ge=1, le=60, description="Seconds to wait for a connection to PostgreSQL."
    )
    statement_seconds: Whole = Field(
        60,
        ge=0,
        le=86_400,
        description="Seconds that one statement may take on PostgreSQL; 0 means no limit. Migrations have none.",
    )
    idle_seconds: Whole = Field(
        60,
        ge=0,
        le=86_400,
        description="After how many idle seconds PostgreSQL ends a transaction, which may hold locks; 0 means never.",
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
    accepted_jwt_secrets: values.Secrets = Field(
        (),
        examples=[("the-previous-example-that-everybody-knows-so-make-your-own",)],
        description="Further secrets whose tokens, sessions and links are accepted: the previous or the next `auth.jwt_secret`, while it changes. See [Change the secret](../how-to/accounts.md#change-the-secret).",
    )
    trigger_secret: values.Secret | None = Field(
        None,
        examples=["a-third-example-that-everybody-knows-so-make-your-own"],
        description="With it, other schedulers sign requests to `POST /webhook/trigger/{task_id}`, which runs any task as its owner. Default: they send a token, as everywhere. See [Run a task from another scheduler](../how-to/schedules.md#run-a-task-from-another-scheduler).",
    )
    required: bool = Field(False, description="Refuse to start without authentication.")
    audience: str | None = Field(
        None,
        min_length=1,
        examples=["https://flow.example.com"],
        description="The claim `aud` that tokens of other issuers must have. Default: any.",
    )
    foreign_token_days: Whole = Field(
        31,
        ge=1,
        le=3650,
        description="The longest life, in days, of a token of another issuer that signs with the same secret.",
    )
    access_minutes: Whole = Field(15, ge=1, le=1440, description="Minutes for which an access token is valid.")
    refresh_days: Whole = Field(
        1, ge=1, le=365, description="Days that a login without a refresh, and a session of the dashboard, last."
    )

    @property
    def is_on(self) -> bool:
        """A secret enables authentication, unless `enabled` overrides it."""
        return self.jwt_secret is not None if self.enabled is None else self.enabled

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The secrets whose tokens are accepted, the one that signs first; empty without one that signs."""
        return (self.jwt_secret, *self.accepted_jwt_secrets) if self.jwt_secret is not None else ()


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
    user_share: Whole = Field(
        75,
        ge=1,
        le=100,
        description="The percentage of these places that one user may hold, so that work of hours leaves room for others; `shares` replaces it for single users. Does not apply without authentication.",
    )
    tree_bytes: Whole = Field(
        512 * MIB,
        ge=MIB,
        le=1024 * GIB,
        description="About how much memory the inputs, parameters and earlier results of all trees in one worker process may take. Further trees wait. One user may hold `worker.user_share` of it.",
    )
    drain_seconds: Whole = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds that a worker that shuts down may take to finish its tasks. The rest goes back to the queue.",
    )
    lease_seconds: Whole = Field(
        15,
        ge=15,
        le=3600,
        description="Seconds after a worker process last reached the database until other workers may take over its runs. It stops them itself after two thirds of this time. With a longer lease, running tasks survive a longer failover of the database instead of starting again, but the runs of a lost host wait longer. If only the process is lost, its host notices at once.",
    )
    stall_seconds: Whole = Field(
        60,
        ge=5,
        le=3600,
        description="Seconds for which one task may block the event loop of its worker process. After that the task fails, and the process is replaced; its other runs continue elsewhere.",
    )
    quarantine: Whole = Field(
        2,
        ge=1,
        le=64,
        description="The number of processes for runs whose worker died. Each has one such run for itself, until it has made progress or has stayed alive for `worker.quarantine_seconds`. They start when they are needed; up to four times as many if runs that have killed such a process occupy them.",
    )
    quarantine_seconds: Whole = Field(
        30,
        ge=1,
        le=3600,
        description="After this time alive in a process of its own, a run whose worker died lets the next one in, and continues beside it.",
    )
    metrics_port: Whole | None = Field(
        None,
        ge=1,
        le=65535,
        examples=[9464],
        description="The port for `GET /metrics` and `GET /health` of `aipartnerupflow worker`, which otherwise opens no port, on the address `server.host`. It asks for no token: let only Prometheus reach it.",
    )


class Events(Section):
    keep_days: Whole = Field(
        30,
        ge=0,
        le=36_500,
        description="Days to keep the events and model calls of a finished run and the log of its webhook deliveries; 0 keeps them forever. Tasks and their results are kept.",
    )
    sent_days: Whole = Field(
        30,
        ge=1,
        le=3650,
        description="Days to keep events that were sent with `events.send` or to the address of a wait. A wait that begins later may take them.",
    )


class Files(Section):
    folder: values.Folder | None = Field(
        None,
        examples=["/srv/aipartnerupflow/files"],
        description="The folder for the bytes of files. On several machines it must be one that all share. Default: `files` in the data folder.",
    )
    store: values.Bucket | None = Field(
        None,
        examples=["s3://our-bucket/aipartnerupflow"],
        description="A bucket for the bytes of files, with an S3-compatible service: `s3://bucket`, or `s3://bucket/prefix`. Requires the extra `[s3]`. Default: `files.folder`, which is not used with a bucket.",
    )
    s3_endpoint: values.WebAddress | None = Field(
        None,
        examples=["https://s3.example.com"],
        description="The address of the S3-compatible service. Default: that of AWS for the region, or `AWS_ENDPOINT_URL`.",
    )
    s3_region: values.Word | None = Field(
        None, examples=["eu-central-1"], description="The region of the bucket. Default: `AWS_REGION`, or `us-east-1`."
    )
    s3_access_key_id: values.Word | None = Field(
        None,
        examples=["AKIAEXAMPLE"],
        description="The id of the access key. Default: `AWS_ACCESS_KEY_ID`, or the role of the machine or the pod.",
    )
    s3_secret_access_key: values.Secret | None = Field(
        None,
        examples=["an-example-of-an-access-key"],
        description="The secret of the access key. Default: `AWS_SECRET_ACCESS_KEY`, or the role of the machine or the pod.",
    )
    sync: Literal["always", "never"] = Field(
        "always",
        description="Whether an upload waits until the disk has the file. With `never`, a power cut may lose files whose uploads were answered.",
    )
    encrypt: bool = Field(
        False,
        description="Whether new files are encrypted on the disk, each with a key of its own, which the first of `llm.encryption_keys` encrypts.",
    )
    upload_hours: Whole = Field(
        24, ge=1, le=8760, description="After how many hours without a byte an unfinished upload is deleted."
    )
    link_minutes: Whole = Field(
        15, ge=1, le=10_080, description="The longest time, in minutes, for which a signed link to a file is valid."
    )


class Retention(Section):
    completed_days: Whole = Field(
        0,
        ge=0,
        le=36_500,
        description="After how many days to delete a tree whose last run has completed, with its tasks, results and runs; 0 keeps it forever.",
    )
    failed_days: Whole = Field(
        0, ge=0, le=36_500, description="Days to keep a tree whose last run has failed; 0 keeps it forever."
    )
    cancelled_days: Whole = Field(
        0, ge=0, le=36_500, description="Days to keep a tree whose last run was cancelled; 0 keeps it forever."
    )
    firings: Whole = Field(
        1000,
        ge=10,
        le=1_000_000,
        description="The number of past times of a schedule to keep, with the outcome of each. The oldest are deleted; trees and runs are not.",
    )
    audit_days: Whole = Field(
        365, ge=0, le=36_500, description="After how many days to delete an entry of the audit log; 0 keeps it forever."
    )
    hook_delivery_days: Whole = Field(
        14,
        ge=1,
        le=36_500,
        description="Days to keep a delivery to an inbound hook. A delivery that is repeated later counts as a new one.",
    )
    unused_file_days: Whole = Field(
        7,
        ge=0,
        le=36_500,
        description="Days to keep a file that no tree and no flow names: since its upload, or since the last of these was deleted. 0 keeps it forever.",
    )


class Cache(Section):
    shared: bool = Field(
        False,
        description='Whether tasks may share results with those of other users (`params.cache` with `"scope": "shared"`). See [Take results from the cache](../how-to/cache.md).',
    )
    entries_per_user: Whole = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Results of one user's tasks in the cache. The oldest ones are removed.",
    )
    bytes_per_user: Whole = Field(
        100 * MIB,
        ge=KIB,
        le=1024 * GIB,
        description="The size of the results of one user's tasks in the cache, as JSON. The oldest ones are removed.",
    )


class Limits(Section):
    body_bytes: Whole = Field(10 * MIB, ge=KIB, le=GIB, description="The size of a request body.")
    body_idle_seconds: Whole = Field(
        30, ge=1, le=3600, description="Seconds that a client may pause while it sends a body."
    )
    client_bytes_per_second: Whole = Field(
        KIB,
        ge=0,
        le=MIB,
        description="The rate at which a client must send a request body, and take a response or a stream for which it is the only cause to wait, over 30 seconds. Slower ones are refused with 408 or cut off; 0 means no minimum.",
    )
    headers: Whole = Field(100, ge=30, le=10_000, description="Headers of a request.")
    header_bytes: Whole = Field(
        64 * KIB, ge=8 * KIB, le=MIB, description="The size of the URL and all headers of a request together."
    )
    header_seconds: Whole = Field(
        10, ge=1, le=3600, description="Seconds that a client may take to send the headers of a request."
    )
    connections_per_address: Whole = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Open connections of one client address in one web process. Does not apply to `server.trusted_proxies`.",
    )
    response_bytes: Whole = Field(
        32 * MIB,
        ge=64 * KIB,
        le=GIB,
        description="The stored data that one response may contain, in bytes; the calls of a batch share it. Lists with a cursor end a page early instead.",
    )
    all_responses_bytes: Whole = Field(
        128 * MIB,
        ge=MIB,
        le=64 * GIB,
        description="The stored data in all responses that one web process makes or sends at a time, in bytes, not counting the first MiB of each. One user may hold half of it. Further large responses are refused with 429.",
    )
    nesting: Whole = Field(64, ge=8, le=200, description="The nesting depth of the JSON in a request.")
    batch: Whole = Field(100, ge=1, le=10_000, description="Calls in one JSON-RPC batch.")
    tasks_per_tree: Whole = Field(10_000, ge=1, le=1_000_000, description="Tasks in one tree.")
    tree_depth: Whole = Field(100, ge=1, le=100, description="Levels of a tree.")
    spawned_tasks: Whole = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Tasks that the tasks of one tree may add to it while it runs: the items of maps, and what executors spawn.",
    )
    nested_runs: Whole = Field(
        10,
        ge=0,
        le=100,
        description="The depth to which trees may run trees: the number of runs above one, each of which waits for the next.",
    )
    flows: Whole = Field(1000, ge=0, le=100_000, description="Flows of one user.")
    flow_versions: Whole = Field(
        100, ge=1, le=10_000, description="The versions that are kept of one flow. The oldest ones are deleted."
    )
    flow_bytes: Whole = Field(
        MIB, ge=KIB, le=GIB, description="The size of the tasks, the schema and the description of one flow, as JSON."
    )
    datasets: Whole = Field(1000, ge=0, le=100_000, description="Data sets of one user.")
    dataset_versions: Whole = Field(
        100, ge=1, le=10_000, description="The versions that are kept of one data set. The oldest ones are deleted."
    )
    dataset_bytes: Whole = Field(
        4 * MIB, ge=KIB, le=GIB, description="The size of the rows of one version of a data set, as JSON."
    )
    result_bytes: Whole = Field(MIB, ge=KIB, le=GIB, description="The size of one task's result as JSON.")
    inline_bytes: Whole = Field(
        MIB,
        ge=KIB,
        le=MIB,
        examples=[65_536],
        description="The size, as JSON, above which a result, or an input of a request, is stored as a file, and the task has a reference to it. See [Large results](../how-to/files.md#know-what-happens-to-large-results).",
    )
    value_bytes: Whole = Field(
        32 * MIB,
        ge=KIB,
        le=GIB,
        description="The size, as JSON, of one result or input that is stored as a file, and of all such values together that one task gets. Workers have them in memory.",
    )
    run_bytes: Whole = Field(
        100 * MIB,
        ge=KIB,
        le=1024 * GIB,
        description="The size of the results of all tasks of a run together, as JSON, without those that are stored as files. A result that exceeds it is stored as a file.",
    )
    file_bytes: Whole = Field(5 * GIB, ge=KIB, le=1024 * GIB, description="The size of one file.")
    file_bytes_per_user: Whole = Field(
        20 * GIB,
        ge=0,
        le=1024 * 1024 * GIB,
        description="The size of all files of one user together, where bytes that several files share count once. 0: no limit.",
    )
    event_bytes: Whole = Field(
        64 * KIB, ge=KIB, le=16 * MIB, description="The size of the payload of an event from outside, as JSON."
    )
    events_per_user: Whole = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="The events from outside that are kept of one user. The oldest ones are deleted.",
    )
    waits_per_user: Whole = Field(
        200_000,
        ge=1000,
        le=100_000_000,
        description="Tasks of one user that wait at once: for an answer, a time, an event or a tree. A further task that would wait fails.",
    )
    runs_per_user: Whole = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Queued and running runs of one user. Does not apply without authentication.",
    )
    tokens_per_user_day: Whole = Field(
        0,
        ge=0,
        le=10**12,
        description="Tokens that model calls of one user's tasks may use on a day (UTC); then no further task or call of theirs starts. 0: no limit. See [budgets](../how-to/budgets.md#limit-each-user).",
    )
    usd_per_user_day: Whole = Field(
        0,
        ge=0,
        le=10**9,
        description="The cost of the model calls of one user per day (UTC), in US dollars. 0: no limit.",
    )
    tasks_per_user_day: Whole = Field(
        0, ge=0, le=10**12, description="Tasks of one user that may start on a day (UTC). 0: no limit."
    )
    seconds_per_user_day: Whole = Field(
        0,
        ge=0,
        le=10**12,
        description="Seconds in which workers may have runs of one user on a day (UTC). 0: no limit.",
    )
    user_day_exceeded: Literal["fail", "ask"] = Field(
        "fail",
        description="The consequence when a limit of a user and day is used up: tasks fail, or they wait and administrators are asked to raise it for that day.",
    )
    mail_recipients_per_user_day: Whole = Field(
        1000,
        ge=0,
        le=10**9,
        description="To how many addresses the tasks and notifications of one user may send e-mails on a day (UTC). 0: no limit.",
    )
    secrets_per_user: Whole = Field(
        100, ge=0, le=100_000, description="Named secrets of one user, and those that the operator shares."
    )
    secret_bytes: Whole = Field(16 * KIB, ge=64, le=64 * KIB, description="The size of a named secret.")
    notifications: Whole = Field(100, ge=0, le=10_000, description="Notifications of one user.")
    hooks: Whole = Field(100, ge=0, le=10_000, description="Inbound hooks of one user.")
    hook_bytes: Whole = Field(
        256 * KIB, ge=KIB, le=25 * MIB, description="The size of the body of a delivery to an inbound hook."
    )
    hook_deliveries: Whole = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="The deliveries to inbound hooks that are kept of one user. The oldest ones are deleted.",
    )
    hook_deliveries_per_minute: Whole = Field(
        600, ge=1, le=1_000_000, description="The deliveries that one inbound hook accepts within a minute."
    )
    schedules: Whole = Field(1000, ge=0, le=100_000, description="Schedules of one user.")
    catch_up_runs: Whole = Field(
        100,
        ge=1,
        le=10_000,
        description="Runs of one schedule that may be under way at a time when it makes up for missed ones (`catch_up`), or wait for an earlier one (`overlap`); and times of one backfill.",
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
    shared: values.SharedLimits | None = Field(
        None,
        examples=[{"crm": {"match": {"host": "crm.example.com"}, "requests_per_second": 10}}],
        description="Named limits that all workers share, by name: how many attempts at tasks or calls of models may start (`requests_per_second`, `requests_per_minute`) or be under way (`at_once`), and how many tokens calls may use (`tokens_per_minute`). A limit applies to what its `match` selects; without one, to the tasks that name it in `params.limits`. Tasks wait for their turn without a worker. See [limits](../how-to/limits.md). Default: none.",
    )
    messages_per_second: Whole = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Messages per second that a client may send on one WebSocket; a burst may have twice as many.",
    )


class Telemetry(Section):
    content: bool = Field(
        False,
        examples=[True],
        description="Whether spans of model calls and tools have their messages, arguments and results, with secrets masked. Spans are sent only with OpenTelemetry's own variables. See [Telemetry](../how-to/telemetry.md).",
    )
    traceparent_to: values.HostPatterns = Field(
        ("*",),
        examples=[[".example.com"]],
        description="Hosts of models, MCP servers, agents and requests of tasks that get the header `traceparent` while traces are sent: names, `.example.com` for a domain with all below it, or `*`. An empty list: none.",
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
        False,
        examples=[True],
        description="Whether to log a line for each request: route, status and time; method, error code, user and run of calls.",
    )
    runs: Whole = Field(
        100,
        ge=0,
        le=100,
        examples=[10],
        description="The percentage of runs of which lines are logged: queued, started, resumed, ended, failures and retries of their tasks. The lines contain ids and numbers, no inputs, results or errors.",
    )
