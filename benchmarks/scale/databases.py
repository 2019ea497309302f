"""The databases of the benchmark, and a process of its own for each measurement."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.http import postgres

Figures = dict[str, float]


def set_up() -> None:
    """Load Django and migrate the database of the environment."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "apflow_site.settings"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def figures_of(module: str, engine: str, size: int, *, folder: Path) -> Figures:
    """What the module prints as JSON with `--measure SIZE`, on the database of this engine and size."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
    with database(engine, f"{module.rpartition('.')[2]}{size}", folder=folder) as settings:
        command = [sys.executable, "-m", module, "--measure", str(size)]
        output = subprocess.run(command, env=env | settings, stdout=subprocess.PIPE, check=True).stdout
    found: Figures = json.loads(output.splitlines()[-1])
    return found


@contextmanager
def database(engine: str, name: str, *, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that uses the database with this name."""
    own = folder / f"{engine}-{name}"
    own.mkdir(exist_ok=True)
    env = {"AIPARTNERUPFLOW_DATA_DIR": str(own)}
    if engine == "sqlite":
        yield env
        return
    import psycopg

    with postgres(folder) as url:
        with psycopg.connect(url, autocommit=True) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                server.execute(f"CREATE DATABASE {name}")
        yield env | {"AIPARTNERUPFLOW_DATABASE_URL": url.replace("/postgres?", f"/{name}?")}


def table(figures: Mapping[tuple[str, int], Figures], engines: Sequence[str], sizes: Sequence[int]) -> str:
    """The milliseconds as Markdown: a row for each question, a column for each engine and size."""
    columns = [(engine, size) for engine in engines for size in sizes]
    lines = ["| milliseconds | " + " | ".join(f"{engine}, {size:,}" for engine, size in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name in figures[columns[0]]:
        lines.append(f"| {name} | " + " | ".join(f"{figures[each][name]:,.1f}" for each in columns) + " |")
    return "\n".join(lines)
