"""`GET /metrics`: the same as the database says, whichever process is asked, after whatever has died."""

import platform
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from tasks.telemetry import metrics
from tasks.telemetry.metrics import once
from tests.ports import free_port
from tests.servers import PYTHON, ROOT, SAME_KEYS, Json, Server, new_database, running, running_server, until
from tests.sizes import size

MODULES = ("tasks/telemetry/metrics.py", "a2a/core/metrics.py", "apflow_site/metrics.py")
RUNS = size(60, full=200)
BATCH = 20
PROCESSES = SAME_KEYS | {"AIPARTNERUPFLOW_WORKER_PROCESSES": "2", "AIPARTNERUPFLOW_WORKER_MAX_TREES": "50"}
NAMES = """
    apflow_tasks_created_total apflow_tasks_finished_total apflow_task_duration_seconds_count apflow_task_queue_wait_seconds_count
    apflow_limit_waits_total apflow_cache_looks_total apflow_tasks_in_progress apflow_queue_depth apflow_workers_alive apflow_events_published_total apflow_rpc_requests_total
    apflow_rpc_duration_seconds_count apflow_stream_clients apflow_llm_tokens_total apflow_llm_cost_usd_total
    apflow_webhook_deliveries_total apflow_queue_oldest_seconds apflow_limit_waiting apflow_limit_oldest_seconds apflow_suspected_runs apflow_suspected_oldest_seconds apflow_loop_seconds_total apflow_loop_lag_seconds_count apflow_worker_places apflow_worker_places_used
    apflow_database_up apflow_rows_removed_total apflow_pool_places apflow_pool_tasks
    apflow_schedule_firings_total apflow_schedule_lateness_seconds_count
    apflow_schedules_overdue apflow_database_bytes apflow_clock_offset_seconds apflow_disk_free_bytes
    apflow_pool_processes_started_total apflow_pool_processes_died_total
    apflow_turn_wait_seconds_count apflow_long_calls_total
    apflow_build_info apflow_processes apflow_process_memory_bytes apflow_process_open_files
""".split()

Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two web processes and two workers."""
    with new_database() as database_url, running_server(database_url, "--workers", "2", env=PROCESSES) as server:
        yield server


def samples(server: Server, **headers: str) -> Samples:
    """(name, value of each label …) → value, of all that is no bucket."""
    response = server.http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def of(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in found.items() if key[0] == name and value}


def step(number: int, **inputs: Any) -> Json:
    return {"name": f"step {number}", "inputs": inputs, "schemas": {"method": "scripted_executor"}}


def execute_many(server: Server, count: int) -> None:
    for start in range(0, count, BATCH):
        trees = [[step(number, then="fail" if number % 10 == 0 else "ok")] for number in range(start, start + BATCH)]
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": "tasks.execute", "params": {"tasks": tasks}}
            for number, tasks in enumerate(trees)
        ]
        assert all("result" in reply for reply in server.http.post("/tasks", json=calls).json())


@pytest.mark.sized
@pytest.mark.both_engines_nightly
def test_the_metrics_agree_with_the_database_after_many_runs(server: Server) -> None:
    alive = ("apflow_workers_alive",)
    until(lambda: samples(server)[alive] == 2, seconds=60, what="the end of the beats of those whom other tests killed")
    before = samples(server)
    execute_many(server, RUNS)
    until(lambda: server.rpc("tasks.running.count", {})["count"] == 0, seconds=60, what="the end of all runs")
    [(events,)] = server.query("SELECT COUNT(*) FROM tasks_taskevent")
    # What is counted is counted after its commit, so the last runs may be over a moment before they are counted.
    until(lambda: samples(server)[("apflow_events_published_total",)] == events, seconds=60, what="the last event")
    key = ("apflow_task_duration_seconds_count",)
    until(lambda: samples(server).get(key, 0) - before.get(key, 0) == RUNS, seconds=60, what="the last count")
    found = samples(server)
    again = samples(server)
    assert found.items() >= again.items() - volatile(again), "the other process answers otherwise"
    ended = dict(
        Counter(server.query("SELECT COALESCE(executor_id, 'group'), status FROM tasks_task WHERE status <> 'pending'"))
    )
    assert of(found, "apflow_tasks_finished_total") == ended
    assert ended[("scripted_executor", "failed")] >= RUNS / 10
    stored = Counter(server.query("SELECT COALESCE(executor_id, 'group') FROM tasks_task"))
    assert of(found, "apflow_tasks_created_total") == dict(stored)
    counted_once_per_run = (
        ("apflow_rpc_requests_total", "ok", "tasks.execute"),
        ("apflow_rpc_duration_seconds_count", "tasks.execute"),
        ("apflow_task_duration_seconds_count",),
        ("apflow_task_queue_wait_seconds_count",),
    )
    assert [found[each] - before.get(each, 0) for each in counted_once_per_run] == [RUNS] * 4
    assert (found[("apflow_queue_depth",)], found[("apflow_tasks_in_progress",)]) == (0, 0)
    assert found[alive] == 2
    assert (found[("apflow_worker_places",)], found[("apflow_worker_places_used",)]) == (2 * 50, 0)
    assert found[("apflow_queue_oldest_seconds",)] == 0


def volatile(found: Samples) -> Any:
    """The scrape counts itself, and its own reads where they are long; the loop's time is counted a moment after a task has ended; clocks and disks move."""
    moving = ("rpc", "loop", "long_calls", "turn_wait", "clock", "disk_free", "database_bytes", "process")
    return {item for item in found.items() if any(each in item[0][0] for each in moving)}


def test_it_says_which_version_it_is_and_what_its_processes_take(server: Server) -> None:
    found = samples(server)
    (build,) = (key[1:] for key in found if key[0] == "apflow_build_info")
    health = server.http.get("/health").json()
    assert build == (connection.vendor, platform.python_version(), health["version"])
    counting = [*server.pids().web, *server.pids().workers]
    assert 2 <= found[("apflow_processes",)] <= len(counting)  # one counts from its first request or run on
    memory = [psutil.Process(pid).memory_info().rss for pid in counting]
    assert min(memory) < found[("apflow_process_memory_bytes",)] < 2 * sum(memory)
    assert found[("apflow_process_open_files",)] > 10


def test_what_a_dead_worker_worked_on_is_no_more_in_progress_but_what_it_did_stays_counted(server: Server) -> None:
    root = server.rpc("tasks.execute", {"tasks": [step(1, seconds=60, steps=60)]})["task_id"]
    until(lambda: samples(server).get(("apflow_tasks_in_progress",)) == 1, seconds=60, what="one task in progress")
    before = of(samples(server), "apflow_tasks_finished_total")
    processes = server.pids()
    sentinel = psutil.Process(processes.sentinel)
    sentinel.suspend()  # it has not noticed the death yet
    server.kill(*processes.workers)
    until(lambda: samples(server)[("apflow_tasks_in_progress",)] == 0, seconds=20, what="no task in progress")
    sentinel.resume()
    server.rpc("tasks.cancel", {"task_id": root})
    until(lambda: server.rpc("tasks.running.count", {})["count"] == 0, seconds=60, what="the end")
    after = samples(server)
    assert after[("apflow_tasks_in_progress",)] == 0
    assert all(after[("apflow_tasks_finished_total", *key)] >= value for key, value in before.items())


def test_a_process_that_has_just_created_its_files_breaks_no_scrape(server: Server) -> None:
    (folder,) = (server.data_dir / "metrics").iterdir()
    empty = folder / "counter_999999.db"
    empty.touch()
    try:
        response = server.http.get("/metrics")
    finally:
        empty.unlink()
    assert response.status_code == 200, response.text


def test_streams_are_counted_while_they_are_open(server: Server) -> None:
    root = server.rpc("tasks.execute", {"tasks": [step(1, seconds=60, steps=60)]})["task_id"]
    with server.events(root) as events:
        next(events)
        assert samples(server)[("apflow_stream_clients", "sse")] == 1
    server.rpc("tasks.cancel", {"task_id": root})
    until(lambda: samples(server)[("apflow_stream_clients", "sse")] == 0, seconds=60, what="the end of the stream")


def test_models_and_unknown_methods_make_no_end_of_labels(server: Server) -> None:
    crew = {"schemas": {"method": "llm_executor"}, "inputs": {"prompt": "hello"}, "params": {"model": "demo/x"}}
    done = server.rpc("tasks.execute", {"tasks": [{"name": "ask", **crew}], "wait": True})
    assert done["status"] == "completed", done
    for method in ("no.such", "neither.this"):
        assert server.call(method, {})["error"]["code"] == -32601
    found = samples(server)
    assert found[("apflow_llm_tokens_total", "demo/x", "demo", "prompt")] > 0
    assert ("apflow_llm_cost_usd_total", "demo/x", "demo") in found
    assert found[("apflow_rpc_requests_total", "-32601", "unknown")] == 2
    assert not [key for key in found if "no.such" in key]


def test_what_is_known_in_advance_begins_at_zero(server: Server) -> None:
    """Prometheus sees no increase in a series that begins with its first failure."""
    found = samples(server)
    for key in (
        ("apflow_tasks_created_total", "a2a_executor"),
        ("apflow_tasks_finished_total", "approval_executor", "failed"),
        ("apflow_webhook_deliveries_total", "failed"),
        ("apflow_rpc_requests_total", "-32603", "tasks.copy"),
        ("apflow_stream_clients", "websocket"),
    ):
        assert found[key] == 0, key
    assert found[("apflow_database_up",)] == 1


def test_two_threads_make_the_metrics_of_a_process_once() -> None:
    both, made = threading.Barrier(2), []

    @once
    def make() -> object:
        with suppress(threading.BrokenBarrierError):
            both.wait(1)  # passes if both threads are here
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: make(), range(2))
    assert (len(made), first is second) == (1, True)


def test_beyond_a_number_models_count_together() -> None:
    names = {metrics._bounded(f"model-{number}") for number in range(metrics.MAX_MODELS * 2)}
    metrics._known_models.cache_clear()
    assert (len(names) <= metrics.MAX_MODELS + 1, metrics.OTHERS in names) == (True, True)


def test_the_names_are_those_that_dashboards_ask_for() -> None:
    text = " ".join((ROOT / path).read_text() for path in MODULES)
    stems = {re.sub("_(total|count)$", "", name) for name in NAMES}
    assert stems == set(re.findall(r'"(apflow_\w+)"', text))


def test_the_dashboard_asks_for_all_of_them_and_for_nothing_else() -> None:
    dashboard = orjson.loads((ROOT / "deploy/grafana-dashboard.json").read_bytes())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    named = {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"apflow_\w+", asked)}
    assert named == {re.sub("_count$", "", name) for name in NAMES}


def test_the_how_to_describes_all_of_them() -> None:
    page = (ROOT / "docs/how-to/operate.md").read_text()
    described = re.findall(r"^\| `(apflow_\w+)", page, re.MULTILINE)
    assert sorted(described) == sorted(re.sub("_count$", "", name) for name in NAMES)


def test_a_machine_that_only_works_answers_on_a_port_of_its_own(server: Server, tmp_path: Path) -> None:
    port = free_port()
    command = [PYTHON, "-m", "aipartnerupflow", "worker"]
    own = SAME_KEYS | {"AIPARTNERUPFLOW_WORKER_METRICS_PORT": str(port)}
    with running(
        command, port=port, database_url=server.database_url, env=own, data_dir=tmp_path, is_ready="/metrics"
    ) as worker:
        assert f"Metrics at http://127.0.0.1:{port}/metrics" in worker.log.read_text()
        assert worker.http.get("/health").json() == server.http.get("/health").json()
        until(lambda: "apflow_workers_alive 3" in worker.http.get("/metrics").text, seconds=60, what="three workers")
