"""The settings of what tasks use: executors, webhooks, language models and A2A."""

from typing import Annotated, Literal

from pydantic import Field

from apflow_site.config import values
from apflow_site.config.mcp_servers import McpServers
from apflow_site.config.values import Allowed, ExecutorId, Ports, Section, SplitPairs, Whole

KIB, MIB, GIB, PIB = 2**10, 2**20, 2**30, 2**50
WEEK_SECONDS = 7 * 86_400


class Command(Section):
    allow: values.Programs = Field(
        (),
        examples=[["/usr/local/bin/count-words"]],
        description="Absolute paths of the programs that `command_executor` may run; if empty, the executor is disabled. Programs that run others or write any file, such as shells, interpreters, `git` and `sort`, are refused at the start. See [Run commands](../how-to/run-commands.md).",
    )
    allow_anyway: values.Programs = Field(
        (),
        description="The programs of `allow` that tasks may run although their arguments make them run any other program. Every user who creates tasks can then run any code in a command.",
    )
    folders: values.Folders = Field(
        (),
        examples=[["/srv/documents"]],
        description="Absolute paths of folders. A task may use one of them, or a folder below one, as its working directory. Commands may read and change all that is in them.",
    )
    readable: values.Folders = Field(
        (),
        examples=[["/opt/reports"]],
        description="Absolute paths of further files and folders that commands may read, and whose programs they may run, where the kernel has Landlock: such as the libraries of a program. They may always read the program itself, `/usr` and what describes the system.",
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
    crews: values.Crews | None = Field(
        None,
        examples=[{"report": "my_company.crews:ReportCrew"}],
        description="Crews and flows of your own code that tasks may run: a name, and `module:Name` of a class with `@CrewBase`, a `Crew`, a function that returns one, or a `Flow`; or the dotted name of a package with `agents.yaml` and `tasks.yaml`. See [Bring your crew](../how-to/bring-your-code.md).",
    )
    max_crews: Whole = Field(
        32,
        ge=1,
        le=1000,
        description="Crews that run concurrently in one process: those of a batch, or all of a worker process if crews run there. Each uses a thread.",
    )


class Langgraph(Section):
    graphs: values.Graphs | None = Field(
        None,
        examples=[{"support": "my_company.graphs:support"}],
        description="LangGraph graphs that tasks may run: a name and `package.module:graph`, a compiled graph, a `StateGraph`, or a function without arguments that returns one. Others are refused. See [Bring your code](../how-to/bring-your-code.md#a-langgraph-graph).",
    )
    state_bytes: Whole = Field(
        4 * MIB,
        ge=64 * KIB,
        le=GIB,
        description="The size of the checkpoints that one task keeps until it ends.",
    )
    langsmith: bool = Field(
        False,
        description="Whether graphs may send traces, with all that their users wrote, to LangSmith. Its variables, such as `LANGSMITH_TRACING`, apply only with this.",
    )


class Rest(Section):
    allow_private: values.Targets = Field(
        (),
        examples=[["10.1.0.0/16", "wiki.internal"]],
        description="Host names, addresses or networks (`10.1.0.0/16`) that outbound requests may reach although they are private. `verify: false` is accepted for names and single addresses of this list.",
    )
    allowed_ports: Ports = Field(
        (80, 443), description="Ports that outbound requests may reach, those to hosts in `allow_private` too."
    )


class LlmTools(Section):
    tools: values.ExecutorIds = Field(
        (),
        examples=[["echo_executor", "rest_executor"]],
        description="Ids of executors that models may call as tools; the arguments are the model's. Functions with `@python_function` need no entry. See [Agents](../how-to/agents.md).",
    )


class McpClient(Section):
    servers: McpServers | None = Field(
        None,
        examples=[
            {
                "search": {"url": "https://mcp.example.com/mcp", "headers": {"Authorization": "Bearer an-example"}},
                "files": {
                    "command": ["/usr/bin/npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/documents"]
                },
            }
        ],
        description="MCP servers that tasks may call by name: `url` and `headers`, or `command`, a list that starts with the absolute path of a program, and `env`. The URL may be a private address. See [Call MCP servers](../how-to/call-mcp-servers.md).",
    )


class Docker(Section):
    images: values.Images = Field(
        (),
        examples=[["python:3.13-slim", "registry.example.com/tools:2"]],
        description="Images of which `docker_executor` may run containers, exactly as tasks name them; if empty, the executor is disabled. See [Run containers](../how-to/run-commands.md#run-containers).",
    )
    daemon: values.DaemonAddress = Field(
        "unix:///var/run/docker.sock",
        description="The address of the Docker daemon: `unix://` and a path, or `tcp://host:port`, such as that of a proxy that allows only some requests. Access to the daemon is root on its machine: never let others reach that port.",
    )
    pull: Literal["never", "missing"] = Field(
        "never",
        description="Whether an image that is not on the machine is pulled, without credentials, when a task needs it (`missing`), or the task fails (`never`).",
    )
    memory_bytes: Whole = Field(
        256 * MIB,
        ge=6 * MIB,
        le=PIB,
        description="The memory of a container whose task sets none. There is no swap.",
    )
    max_memory_bytes: Whole = Field(2 * GIB, ge=6 * MIB, le=PIB, description="The most memory that a task may set.")
    cpus: values.Number = Field(
        1.0, ge=0.01, le=10_000, description="The processors of a container whose task sets none."
    )
    max_cpus: values.Number = Field(2.0, ge=0.01, le=10_000, description="The most processors that a task may set.")
    processes: Whole = Field(
        256, ge=1, le=100_000, description="Processes and threads that a container may have at a time."
    )
    network: values.NetworkName = Field(
        "none",
        description="The Docker network of containers: `none`, or one that lets them reach what they may reach. With `bridge` they reach the internet, and all that the machine reaches.",
    )
    save: bool = Field(
        False,
        description="Whether tasks may save files that their containers leave in `/task/out`. Until they are saved they are on the daemon's disk. Each has at most `limits.file_bytes`, but Docker does not limit how much a container stores together: allow it where the daemon's disk is one that may get full.",
    )
    user: values.UserOfContainers = Field(
        "65534:65534",
        description="The user, and the group, as which containers run, instead of that of their image. `0:0` is root in the container, without capabilities.",
    )
    timeout_seconds: Whole = Field(
        3600,
        ge=1,
        le=WEEK_SECONDS,
        description="The longest time for one container, in seconds, with a pull. A task may set a shorter one.",
    )


class Ssh(Section):
    hosts: values.SshHosts | None = Field(
        None,
        examples=[{"build": "deploy@build.example.com", "db": "backup@10.0.0.5:2222"}],
        description="Hosts on which `ssh_executor` may run commands, by the names that tasks use: `user@host` or `user@host:port`. Private addresses are allowed. Without any, the executor is disabled. See [Run a command on another host](../how-to/call-services.md#run-a-command-on-another-host).",
    )
    keys: values.Files = Field(
        (),
        examples=[["/etc/aipartnerupflow/ssh_key"]],
        description="Paths of the private keys to log in with, without a pass phrase.",
    )
    known_hosts: values.File | None = Field(
        None,
        examples=["/etc/aipartnerupflow/known_hosts"],
        description="The path of a file with the keys of the hosts, as `ssh-keyscan` prints them. A host with another key is refused.",
    )


class Executors(Section):
    modules: values.ModuleNames = Field((), description="Dotted names of modules that define your own executors.")
    config: values.ExecutorConfigs | None = Field(
        None,
        examples=[{"word_count_executor": {"language": "en"}}],
        description="The objects that your own executors read as `context.config`, by the ids of the executors. See [Write an executor](../how-to/write-an-executor.md#go-further).",
    )
    command: Command = Command()
    crewai: Crewai = Crewai()
    docker: Docker = Docker()
    langgraph: Langgraph = Langgraph()
    llm: LlmTools = LlmTools()
    mcp: McpClient = McpClient()
    rest: Rest = Rest()
    ssh: Ssh = Ssh()


class Webhooks(Section):
    allow_private: bool = Field(
        False, description="Whether webhooks may use private addresses, on any port. For development."
    )
    allowed_ports: Ports = Field((80, 443), description="Ports of public addresses that webhooks may use.")
    keep_hours: Whole = Field(
        24, ge=1, le=30 * 24, description="Hours after an event for which its delivery is retried."
    )
    timeout_seconds: Whole = Field(10, ge=1, le=120, description="Seconds to wait for a receiver's answer.")
    max_per_run: Whole = Field(10, ge=1, le=1000, description="Webhooks per run.")


class Email(Section):
    host: values.Host | None = Field(
        None,
        examples=["smtp.example.com"],
        description="The mail server (SMTP) through which the server sends notifications and the mails of `send_email_executor`. Without one it sends none.",
    )
    port: Whole = Field(587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="The encryption of the connection: `starttls`, `tls` from the start, or `none`."
    )
    username: str | None = Field(None, min_length=1, examples=["apflow"], description="The name to log in with.")
    password: values.Secret | None = Field(
        None,
        examples=["an-example-that-everybody-knows"],
        description="Its password. Preferably set it in the environment.",
    )
    sender: values.Mailbox | None = Field(
        None, examples=["apflow@example.com"], description="The address that mails come from."
    )
    allow: values.MailboxPatterns = Field(
        (),
        examples=[["*@example.com"]],
        description="Addresses to which users may let mails be sent: `ops@example.com`, `*@example.com` or `*`.",
    )
    timeout_seconds: Whole = Field(15, ge=1, le=120, description="Seconds to wait for the mail server.")


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
    store_content: bool = Field(
        True,
        description="Whether messages, answers and tool calls of model calls are stored, for the owner of the task and administrators. If not, only who called which model when, tokens, costs and errors are. See [See what a model did](../how-to/llm.md#see-what-a-model-did).",
    )
    api_base: values.WebAddresses | None = Field(
        None,
        examples=[{"ollama": "http://localhost:11434"}],
        description="URLs to use instead of a provider's own: `{openai: https://llm.example.com/v1}`, in the environment `openai=https://llm.example.com/v1,ollama=http://localhost:11434`. All keys for that provider are sent there.",
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
    text_flow: values.FlowName | None = Field(
        None,
        examples=["assistant"],
        description="The flow for plain text messages, instead of an executor: the one of this name that the caller has. Its inputs are `message` and, if it takes them, `history` and `context_id`. See [A2A](../how-to/a2a.md#answer-with-a-flow).",
    )
    conversation_characters: Whole = Field(
        20_000,
        ge=0,
        le=1_000_000,
        description="The number of characters of earlier messages and answers of its context that a text for `llm_executor` brings with it, the newest first. 0: none.",
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


ToolHints = Annotated[
    dict[ExecutorId, Literal["read_only", "additive", "destructive"]],
    SplitPairs,
    Allowed(
        "a mapping of executor ids and read_only, additive or destructive (in the environment: name=value, separated by commas)"
    ),
]


class Mcp(Section):
    authorization_servers: values.Issuers = Field(
        (),
        examples=[["https://login.example.com"]],
        description="Authorization servers that issue tokens for this server, by their issuer identifiers. A client of MCP without a valid token is sent to them (RFC 9728). They sign with `auth.jwt_secret` (HS256), and `auth.audience` is what their tokens are meant for. Default: none.",
    )
    tools: ToolHints | None = Field(
        None,
        examples=[{"system_info_executor": "read_only", "rest_executor": "destructive"}],
        description="Executors that are [tools of MCP](../how-to/mcp.md#offer-executors-as-tools), and what a call may do, for clients that ask their user before it: `read_only`, `additive` or `destructive`. Default: none.",
    )
    wait_seconds: Whole = Field(
        45,
        ge=0,
        le=3600,
        description="Seconds that a call of a tool waits for the end of its run. Then it returns the run's id. Most MCP clients give up after 60.",
    )
