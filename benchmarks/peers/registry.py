"""The systems that are measured: a row for each. A new one takes a row here and a script in `systems/`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.peers.environments import Environment

RESTATE: Final = Environment(
    name="restate",
    npm=("@restatedev/restate-server@1.7.12",),
    python=("restate-sdk==1.3.0", "hypercorn[uvloop]==0.18.0"),
)
DBOS: Final = Environment(name="dbos", python=("dbos==3.4.0", "psycopg[binary]==3.3.9"))
LANGGRAPH: Final = Environment(
    name="langgraph",
    python=(
        "langgraph==1.2.24",
        "langgraph-checkpoint-postgres==3.2.0",
        "psycopg[binary]==3.3.9",
        "psycopg-pool==3.3.3",
    ),
)
CELERY: Final = Environment(
    name="celery", python=("celery==5.7.0", "redis==8.1.0", "gevent==26.9.0", "packaging==26.4")
)
PROCRASTINATE: Final = Environment(
    name="procrastinate", python=("procrastinate==3.10.0", "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system, how a round of it is measured, and what a run of it survives."""

    name: str
    title: str
    """With `{version}` where the version of its package belongs."""
    script: str
    """The module in `systems/` that measures a round and prints the figures as a line of JSON."""
    environment: Environment | None = None
    """None: the environment of the project itself."""
    needs: Literal["postgres", "valkey"] | None = None
    """The server that is started for the round; its URL is in the variable `SERVER_URL`."""
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Variables of the script's process."""
    killed: str = "yes"
    """Whether a run goes on after one of its processes was killed."""
    power_cut: str = "yes"
    """Whether what the submitter has seen is still there after a power cut."""

    def __str__(self) -> str:
        return self.title.format(version=self.environment.version if self.environment else "")


#: With the default, `normal`, a power cut may lose the last commits.
SQLITE_FULL: Final = {"AIPARTNERUPFLOW_DATABASE_SQLITE_SYNCHRONOUS": "full"}
LAST_COMMITS: Final = "but for the last commits"
SYSTEMS: Final = (
    System(name="sqlite", title="ours, SQLite", script="ours", power_cut=LAST_COMMITS),
    System(name="sqlite-full", title="ours, SQLite, synchronous full", script="ours", settings=SQLITE_FULL),
    System(name="postgres", title="ours, PostgreSQL", script="ours", needs="postgres"),
    System(name="code-sqlite", title="ours as code, SQLite", script="ours_code", power_cut=LAST_COMMITS),
    System(name="code-postgres", title="ours as code, PostgreSQL", script="ours_code", needs="postgres"),
    System(name="http-sqlite", title="ours over HTTP, SQLite", script="ours_http", power_cut=LAST_COMMITS),
    System(
        name="http-sqlite-full",
        title="ours over HTTP, SQLite, synchronous full",
        script="ours_http",
        settings=SQLITE_FULL,
    ),
    System(name="http-postgres", title="ours over HTTP, PostgreSQL", script="ours_http", needs="postgres"),
    System(name="restate", title="Restate {version}", script="restate", environment=RESTATE),
    System(name="dbos", title="DBOS {version}, PostgreSQL", script="dbos", environment=DBOS, needs="postgres"),
    System(
        name="langgraph-sync",
        title="LangGraph {version}, PostgreSQL, durability sync",
        script="langgraph",
        arguments=("sync",),
        killed="when it is invoked again",
        environment=LANGGRAPH,
        needs="postgres",
    ),
    System(
        name="langgraph-async",
        title="LangGraph {version}, PostgreSQL, durability async",
        script="langgraph",
        arguments=("async",),
        killed="when it is invoked again",
        environment=LANGGRAPH,
        needs="postgres",
    ),
    System(
        name="langgraph-code",
        title="LangGraph {version} as code, PostgreSQL, durability sync",
        script="langgraph_code",
        arguments=("sync",),
        killed="when it is invoked again",
        environment=LANGGRAPH,
        needs="postgres",
    ),
    System(
        name="celery-prefork",
        title="Celery {version}, Valkey, prefork",
        script="celery",
        arguments=("prefork", "2"),
        killed="no",
        power_cut="no",
        environment=CELERY,
        needs="valkey",
    ),
    System(
        name="celery-gevent",
        title="Celery {version}, Valkey, gevent",
        script="celery",
        arguments=("gevent", "500"),
        killed="no",
        power_cut="no",
        environment=CELERY,
        needs="valkey",
    ),
    System(
        name="procrastinate",
        title="procrastinate {version}, PostgreSQL",
        script="procrastinate",
        killed="when code of the user retries it",
        environment=PROCRASTINATE,
        needs="postgres",
    ),
)
