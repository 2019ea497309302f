"""Real processes, killed and told to stop in every way: no accepted tree is lost, and nothing that completed runs again.

What heals by itself shares one server.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.effects import Effects
from tests.fork_server import CLUSTER
from tests.ports import free_port
from tests.servers import COMMAND, SAME_KEYS, Server, new_database, running, running_server, until

pytestmark = pytest.mark.both_engines_nightly

RECOVERY_SECONDS = 60.0
ORPHAN_SECONDS = 60.0
ONE_AT_A_TIME = {"AIPARTNERUPFLOW_WORKER_PROCESSES": "1", "AIPARTNERUPFLOW_WORKER_MAX_TREES": "1"}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database() as url, running_server(url) as server:
        yield server


def holder_of(server: Server, root_id: str) -> int:
    """The id of the process that works on the tree."""
    ((owner,),) = server.query("SELECT lease_owner FROM tasks_run WHERE root_id = %s AND finished_at IS NULL", root_id)
    return int(owner.split("/")[1])


def sentinels(server: Server) -> list[psutil.Process]:
    """The first process of each cluster."""
    clusters = [process for process in server.processes() if server.runs(process, CLUSTER)]
    pids = {process.pid for process in clusters}
    return [process for process in clusters if process.ppid() not in pids]


def moment(stored: str | datetime) -> datetime:
    """SQLite has a text."""
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


def is_any_alive(server: Server, pids: list[int]) -> bool:
    return any(process.pid in pids for process in server.processes())


def read_to(events: Iterator[Json], type_: str, task_id: str) -> list[Json]:
    """The events up to this one of this task."""
    seen = []
    for event in events:
        seen.append(event)
        if (event["type"], event["task_id"]) == (type_, task_id):
            return seen
    raise AssertionError(f"The stream ended without {type_} of {task_id}: {seen}")


def assert_complete_and_dense(events: list[Json], names: list[str]) -> None:
    """Every number once and in order, every task completed once, and the tree at last."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    completed = [event["task_id"] for event in events if event["type"] == "task_completed"]
    assert sorted(completed) == sorted(names)
    assert [event["type"] for event in events[-2:]] == ["final", "stream_end"]
    assert events[-2]["status"] == "completed"


def assert_each_ended_once(effects: Effects, names: list[str]) -> None:
    assert effects.counts("end") == dict.fromkeys(names, 1)


@pytest.mark.both_engines
def test_a_tree_goes_on_when_its_worker_is_killed(server: Server, effects: Effects) -> None:
    tasks = effects.chain("tree", 6, seconds=0.3, gated=3)
    names = [task["id"] for task in tasks]
    server.rpc("tasks.execute", {"tasks": tasks})
    with server.events("tree") as events:
        seen = read_to(events, "task_start", "tree-3")
        until(lambda: "start tree-3" in effects.lines(), seconds=60, what="the third step's work")
        server.kill(holder_of(server, "tree"))
        effects.open_gate()
        read_to(events, "task_completed", "tree-3")
        assert [event["type"] for event in events][-1] == "stream_end"
    assert_complete_and_dense(server.finished("tree"), names)
    assert {event["task_id"] for event in seen if event["type"] == "task_completed"} == {"tree-1", "tree-2"}
    assert_each_ended_once(effects, names[1:])
    assert effects.counts("start") == dict.fromkeys(names[1:], 1) | {"tree-3": 2}


@pytest.mark.both_engines
def test_tasks_that_wait_for_the_call_of_a_worker_that_is_killed_take_its_result(
    server: Server, effects: Effects
) -> None:
    inputs = effects.gated(effects.step("calls"))["inputs"]
    names = ["calls", "waits-1", "waits-2"]
    for name in names:
        method, params = {"method": "steady_executor"}, {"cache": "1h"}
        task = {"id": name, "name": name, "schemas": method, "inputs": inputs, "params": params}
        server.rpc("tasks.execute", {"tasks": [task]})
        if name == "calls":
            until(lambda: "start calls" in effects.lines(), seconds=60, what="the call")
        else:
            waiting = "SELECT 1 FROM tasks_question WHERE task_id = %s AND kind = 'call' AND answered_at IS NULL"
            until(lambda: server.query(waiting, name), seconds=60, what="the wait")  # noqa: B023
    server.kill(holder_of(server, "calls"))
    until(lambda: effects.lines().count("start calls") == 2, seconds=60, what="the repetition of the call")
    effects.open_gate()
    assert [server.finished(name)[-1]["status"] for name in names] == ["completed"] * 3
    taken = [server.rpc("tasks.get", {"task_id": name})["cached_from"]["task_id"] for name in names[1:]]
    assert taken == ["calls"] * 2
    assert effects.lines() == ["start calls", "start calls", "end calls"]


def test_a_lease_is_as_long_as_the_setting(server: Server, effects: Effects) -> None:
    """The server has LEASE; the lease is renewed together with the heartbeat."""
    server.rpc("tasks.execute", {"tasks": [effects.gated(effects.step("held"))]})

    def seconds_left() -> float:
        found = server.query(
            "SELECT lease_expires_at, beat_at FROM tasks_run JOIN tasks_workerprocess AS process "
            "ON process.id = lease_owner WHERE root_id = 'held' AND finished_at IS NULL"
        )
        return max(((moment(end) - moment(beat)).total_seconds() for end, beat in found), default=0.0)

    until(lambda: 55 < seconds_left() < 65, seconds=60, what="a lease of a minute")
    effects.open_gate()
    assert server.finished("held")[-2]["status"] == "completed"


def test_work_goes_on_when_idle_processes_are_killed(database: str, effects: Effects) -> None:
    """An idle worker holds the lock of django-q2's queue; killed, it takes the lock with it."""
    with running_server(database) as server:
        before = server.pids()
        server.kill(before.pusher)
        assert_runs(server, effects, "without a pusher")
        server.kill(*before.workers)
        assert_runs(server, effects, *(f"without workers {number}" for number in range(6)))
        server.stop()


def test_work_goes_on_when_the_sentinel_is_killed(server: Server, effects: Effects) -> None:
    """With it a whole cluster is replaced, so the step must not end before the orphans are gone."""
    (sentinel,) = sentinels(server)
    orphans = [process.pid for process in sentinel.children()]
    server.kill(sentinel.pid)
    server.rpc("tasks.execute", {"tasks": [effects.gated(effects.step("step"))]})
    until(lambda: not is_any_alive(server, orphans), seconds=RECOVERY_SECONDS, what="the orphans' end")
    effects.open_gate()
    assert server.finished("step")[-1]["status"] == "completed"
    assert_each_ended_once(effects, ["step"])


def assert_runs(server: Server, effects: Effects, *names: str) -> None:
    """Steps of these names, sent one after the other, all complete."""
    for name in names:
        server.rpc("tasks.execute", {"tasks": [effects.step(name)]})
    for name in names:
        assert server.finished(name)[-1]["status"] == "completed"
    ended = effects.counts("end")
    assert {name: ended[name] for name in names} == dict.fromkeys(names, 1)


@pytest.mark.both_engines
def test_nobody_is_orphaned_and_a_restart_finishes_the_tree(database: str, effects: Effects) -> None:
    tasks = effects.chain("tree", 4, seconds=0.5, gated=2)
    names = [task["id"] for task in tasks]
    with running_server(database) as server:
        server.rpc("tasks.execute", {"tasks": tasks})
        with server.events("tree") as events:
            read_to(events, "task_start", "tree-2")
        server.kill(server.pid)
        server.assert_gone(within_seconds=ORPHAN_SECONDS)
    assert "end tree-2" not in effects.lines()
    effects.open_gate()
    with running_server(database) as server:
        assert_complete_and_dense(server.finished("tree"), names)
    assert_each_ended_once(effects, names[1:])


@pytest.mark.both_engines
def test_a_run_is_not_blamed_for_the_deaths_of_whole_servers(database: str, effects: Effects, tmp_path: Path) -> None:
    """Its worker may die before what watches it: that is no evidence against the run either."""
    port = free_port()
    for death in range(1, 10):
        with running_server(database, data_dir=tmp_path, port=port) as server:
            if death == 1:
                server.rpc("tasks.execute", {"tasks": [effects.gated(effects.step("patient"))]})
            until(lambda n=death: effects.counts("start")["patient"] == n, seconds=60, what="the step's work")  # type: ignore[misc]
            newest_first = [process.pid for process in reversed(server.processes())]
            server.kill(*newest_first[death % 2 * len(newest_first) :], server.pid)
            server.assert_gone(within_seconds=ORPHAN_SECONDS)
    effects.open_gate()
    with running_server(database, data_dir=tmp_path, port=port) as server:
        assert server.finished("patient")[-1]["status"] == "completed"
        assert server.query("SELECT losses, strikes FROM tasks_run") == [(0, 0)]
    assert_each_ended_once(effects, ["patient"])


def test_a_worker_that_hears_nothing_ends_with_its_server(database: str, effects: Effects) -> None:
    """Its code holds the interpreter's lock, so that no thread of it can see that the server was killed."""
    deaf = effects.step("deaf")
    deaf["inputs"]["then"] = "hold the lock of the interpreter"
    with running_server(database) as server:
        server.rpc("tasks.execute", {"tasks": [deaf]})
        until(lambda: "start deaf" in effects.lines(), seconds=60, what="its work")
        server.kill(server.pid)
        server.assert_gone(within_seconds=ORPHAN_SECONDS)


@pytest.mark.both_engines
def test_a_stream_is_resumed_after_the_server_was_killed(database: str, effects: Effects, tmp_path: Path) -> None:
    tasks = effects.chain("tree", 6, seconds=0.3)
    port = free_port()
    with running_server(database, data_dir=tmp_path, port=port) as server:
        server.rpc("tasks.execute", {"tasks": tasks})
        with server.events("tree") as events:
            seen = read_to(events, "task_start", "tree-3")
            server.kill(server.pid)
        server.assert_gone(within_seconds=ORPHAN_SECONDS)
    with running_server(database, data_dir=tmp_path, port=port) as server:
        with server.events("tree", after=seen[-1]["seq"]) as events:
            rest = list(events)
        assert_complete_and_dense(seen + rest, [task["id"] for task in tasks])
        assert server.finished("tree") == seen + rest


def test_a_run_goes_on_when_its_client_leaves(server: Server, effects: Effects) -> None:
    tasks = effects.chain("left", 3, seconds=0.3)
    request = {"jsonrpc": "2.0", "method": "tasks.execute", "params": {"tasks": tasks, "use_streaming": True}, "id": 1}
    with server.http.stream("POST", "/tasks", json=request) as response:
        read_first_event(response.iter_lines())
    assert_complete_and_dense(server.finished("left"), [task["id"] for task in tasks])
    assert_each_ended_once(effects, [task["id"] for task in tasks[1:]])


def read_first_event(lines: Iterator[str]) -> None:
    assert any(line.startswith("id: 1") for line in lines)


@contextmanager
def web_and_worker(database: str, before_the_worker: Callable[[Server], None]) -> Iterator[Server]:
    """A server without a worker, and, when what is to be done before is done, a worker beside it."""
    port = free_port()
    with running_server(database, "--no-worker", port=port, env=SAME_KEYS) as server:
        before_the_worker(server)
        with running([*COMMAND, "worker"], port=port, database_url=database, env=SAME_KEYS):
            yield server


@pytest.mark.both_engines
def test_a_wake_up_that_never_comes_delays_a_tree_and_no_more(database: str, effects: Effects) -> None:
    def lose_the_wake_up(server: Server) -> None:
        server.rpc("tasks.execute", {"tasks": effects.chain("tree", 2, seconds=0.1)})
        server.query("DELETE FROM django_q_ormq")

    with web_and_worker(database, lose_the_wake_up) as server:
        assert_complete_and_dense(server.finished("tree"), ["tree", "tree-1", "tree-2"])
        assert_each_ended_once(effects, ["tree-1", "tree-2"])


@pytest.mark.both_engines
def test_five_wake_ups_for_one_run_run_it_once(database: str, effects: Effects) -> None:
    tasks = effects.chain("tree", 3, seconds=0.2)
    names = [task["id"] for task in tasks]

    def wake(server: Server) -> None:
        """Four more, as a queue does that delivers at least once."""
        ((run_id,),) = server.query("SELECT id FROM tasks_run")
        for _ in range(4):
            server.query(
                "INSERT INTO django_q_ormq (key, payload, lock) VALUES ('apflow', %s, '2020-01-01 00:00:00+00:00')",
                run_id,
            )

    def wake_before(server: Server) -> None:
        server.rpc("tasks.execute", {"tasks": tasks})
        wake(server)

    with web_and_worker(database, wake_before) as server:
        with server.events("tree") as events:
            read_to(events, "task_start", "tree-2")
            wake(server)
            read_to(events, "final", "tree")
        wake(server)
        until(lambda: not server.query("SELECT 1 FROM django_q_ormq"), seconds=RECOVERY_SECONDS, what="an empty queue")
        server.rpc("tasks.execute", {"tasks": [effects.step("last")], "wait": True})
        assert_complete_and_dense(server.finished("tree"), names)
        assert_each_ended_once(effects, [*names[1:], "last"])


@pytest.mark.parametrize("to_everyone", [False, True], ids=["to the parent", "to every process at once"])
def test_sigterm_lets_the_steps_in_hand_end_and_leaves_the_rest(
    database: str, effects: Effects, to_everyone: bool
) -> None:
    with running_server(database, env=ONE_AT_A_TIME) as server:
        server.rpc("tasks.execute", {"tasks": effects.chain("running", 2, seconds=0.7, gated=1)})
        with server.events("running") as events:
            read_to(events, "task_start", "running-1")
        server.rpc("tasks.execute", {"tasks": [effects.step("waiting")]})
        (server.terminate_all if to_everyone else server.process.terminate)()
        until(lambda: "of 1 running tree may end within 30 s" in server.log.read_text(), seconds=60, what="the drain")
        effects.open_gate()
        server.stop()
        assert server.process.returncode == 0
    assert effects.lines() == ["start running-1", "end running-1"]
    with running_server(database) as server:
        assert server.finished("waiting")[-1]["status"] == "completed"
        assert server.finished("running")[-1]["status"] == "completed"
    assert_each_ended_once(effects, ["running-1", "running-2", "waiting"])


def test_what_is_not_done_in_time_is_cut_off_and_begun_again(database: str, effects: Effects) -> None:
    with running_server(database, env={"AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1"}) as server:
        server.rpc("tasks.execute", {"tasks": [effects.gated(effects.step("long"))]})
        until(effects.lines, seconds=60, what="the task's start")
        server.stop()
    assert effects.lines() == ["start long", "give-up long"]
    effects.open_gate()
    with running_server(database) as server:
        assert server.finished("long")[-1]["status"] == "completed"
    assert_each_ended_once(effects, ["long"])


def test_ctrl_c_says_what_it_waits_for_and_a_second_one_ends_the_wait(database: str, effects: Effects) -> None:
    with running_server(database, env={"AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "600"}) as server:
        server.rpc("tasks.execute", {"tasks": [effects.step("long", seconds=1200)]})
        until(lambda: status_of_long(server) == "in_progress", seconds=60, what="the commit of the task's start")
        server.process.send_signal(signal.SIGINT)
        until(lambda: "of 1 running tree may end within 600 s" in server.log.read_text(), seconds=60, what="the reason")
        server.process.send_signal(signal.SIGINT)
        server.assert_gone(within_seconds=ORPHAN_SECONDS)
        assert status_of_long(server) == "in_progress"


def status_of_long(server: Server) -> Any:
    ((status,),) = server.query("SELECT status FROM tasks_task WHERE id = 'long'")
    return status


@pytest.mark.parametrize("how", ["die", pytest.param("hold the lock of the interpreter", marks=pytest.mark.nightly)])
def test_a_deadly_task_is_given_up_and_its_neighbours_are_not(database: str, effects: Effects, how: str) -> None:
    """Ten trees beside it complete, each step begun at most once more, and none of their workers is blamed on them."""
    deadly = effects.step("deadly")
    deadly["inputs"]["then"] = how
    trees = [effects.chain(f"tree{number}", 3, seconds=0.01, gated=2) for number in range(10)]
    steps = [task["id"] for tree in trees for task in tree[1:]]
    with running_server(database, env={"AIPARTNERUPFLOW_WORKER_PROCESSES": "1"}) as server:
        for tree in trees:
            server.rpc("tasks.execute", {"tasks": tree})
        until(lambda: len(effects.counts("start")) == 20, seconds=60, what="all ten at their second step")
        server.rpc("tasks.execute", {"tasks": [deadly]})
        until(lambda: effects.counts("start")["deadly"] > 1, seconds=RECOVERY_SECONDS, what="the first death")
        effects.open_gate()
        for tree in trees:
            assert_complete_and_dense(server.finished(tree[0]["id"]), [task["id"] for task in tree])
        events = server.finished("deadly")
        assert (events[-1]["status"], events[-1]["error"][:6]) == ("failed", "Poison")
        suspicion = server.rpc("runs.get", {"run_id": events[-1]["run_id"]})["suspicion"]
        assert [death["was_executing"] for death in suspicion["deaths"]] == [True] * 4
        assert {death["exit_code"] for death in suspicion["deaths"]} == {1 if how == "die" else -9}
        assert server.query("SELECT losses, strikes FROM tasks_run WHERE root_id LIKE 'tree%%' AND strikes > 0") == []
    assert effects.counts("start")["deadly"] == 4, "once among others, three times alone"
    assert_each_ended_once(effects, steps)
    assert max(effects.counts("start")[step] for step in steps) <= 2


@pytest.mark.both_engines
def test_long_suspects_do_not_keep_others_out_of_the_quarantine(database: str, effects: Effects) -> None:
    """Two long runs are suspected after three deaths, and there is one place. The poison still ends before they do."""
    patient = ["patient1", "patient2"]
    env = {"PROCESSES": "1", "QUARANTINE": "1", "QUARANTINE_SECONDS": "1"}
    with running_server(
        database, env={f"AIPARTNERUPFLOW_WORKER_{name}": value for name, value in env.items()}
    ) as server:
        for name in patient:
            server.rpc("tasks.execute", {"tasks": [effects.gated(effects.step(name))]})
        for death in range(1, 4):
            until(
                lambda n=death: min(effects.counts("start")[name] for name in patient) >= n,  # type: ignore[misc]
                seconds=60,
                what="both long steps at work",
            )
            server.kill(*{holder_of(server, name) for name in patient})
        deadly = effects.step("deadly")
        deadly["inputs"]["then"] = "die"
        server.rpc("tasks.execute", {"tasks": [deadly]})
        assert server.finished("deadly")[-1]["error"].startswith("Poison")
        assert effects.counts("end") == {}
        effects.open_gate()
        for name in patient:
            assert server.finished(name)[-1]["status"] == "completed"
    assert_each_ended_once(effects, patient)


@pytest.mark.both_engines
def test_two_worker_commands_share_the_work(database: str, effects: Effects) -> None:
    """What they do comes from one queue, and no run is claimed twice."""
    trees = [effects.chain(f"tree{number}", 3, seconds=0.02) for number in range(30)]
    with (
        running_server(database, env=SAME_KEYS) as server,
        running([*COMMAND, "worker"], port=int(server.url.rpartition(":")[2]), database_url=database, env=SAME_KEYS),
    ):
        until(lambda: len(server.query("SELECT 1 FROM tasks_workerprocess")) > 1, seconds=60, what="a second worker")
        for tree in trees:
            server.rpc("tasks.execute", {"tasks": tree})
        for tree in trees:
            assert_complete_and_dense(server.finished(tree[0]["id"]), [task["id"] for task in tree])
    assert_each_ended_once(effects, [task["id"] for tree in trees for task in tree[1:]])
    assert effects.counts("start") == effects.counts("end")
