"""A key's way to its run: kept by the transaction that starts it, waiting at most a day, erased when it is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from llmkeys import keys, run_secrets
from llmkeys.cipher import CannotUnseal
from llmkeys.models import RunSecret
from llmkeys.providers import SentKey, parse_header
from llmkeys.secret import Secret
from tasks.models import Run
from tasks.rules.exceptions import TasksError
from tasks.services import trees
from tasks.services.trees import editing, idempotency
from tasks.services.trees.idempotency import Token
from tests.tasks.trees import ADMIN, ALICE, BOB, finish
from tests.workers import WorkerThread

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

FIRST, SECOND = parse_header(Secret("openai:sk-first-canary-0001")), parse_header(Secret("sk-second-canary-0002"))
TASK = {"id": "t", "name": "echo_executor"}


def kept(**filters: Any) -> list[str]:
    """The last characters of the keys that are kept."""
    return [run_secrets.opened(row).reveal()[-4:] for row in RunSecret.objects.filter(**filters).order_by("id")]


def create(sent: SentKey | None = FIRST, **arguments: Any) -> trees.Created:
    return trees.create_tree(caller=ALICE, tasks=[TASK], llm_key=sent, **arguments)


def test_a_key_is_kept_for_the_run_that_it_came_with() -> None:
    run = trees.execute_tree(caller=ALICE, tasks=[TASK], llm_key=FIRST).run
    row = RunSecret.objects.get()
    assert (row.run_id, row.tree_id, row.user_id, row.provider) == (run.id, "t", "alice", "openai")
    assert kept() == ["0001"]
    assert "canary" not in repr(RunSecret.objects.values())


def test_without_a_key_nothing_is_kept() -> None:
    trees.execute_tree(caller=ALICE, tasks=[TASK])
    assert not RunSecret.objects.exists()


@pytest.mark.both_engines
def test_a_key_that_came_with_the_tree_goes_to_its_next_run_and_to_no_other() -> None:
    create()
    assert kept(run_id=None) == ["0001"]
    first = trees.execute_task(caller=ALICE, task_id="t").run
    assert kept(run_id=first.id) == ["0001"]
    finish(first)
    run_secrets.erase([first.id])
    trees.execute_task(caller=ALICE, task_id="t")
    assert kept() == []


@pytest.mark.both_engines
def test_the_key_of_the_execution_takes_the_place_of_the_one_that_waits() -> None:
    create()
    run = trees.execute_task(caller=ALICE, task_id="t", llm_key=SECOND).run
    assert kept() == kept(run_id=run.id) == ["0002"]


@pytest.mark.both_engines
def test_creating_with_execution_gives_the_key_to_that_run() -> None:
    created = create(execute=True)
    assert created.run is not None
    assert kept(run_id=created.run.id) == ["0001"]


@pytest.mark.both_engines
def test_another_caller_does_not_get_the_key_that_waits() -> None:
    create()
    trees.execute_task(caller=ADMIN, task_id="t")
    assert kept(run_id=None) == ["0001"]
    with pytest.raises(TasksError):
        trees.execute_task(caller=BOB, task_id="t", llm_key=SECOND)
    assert kept() == ["0001"]


def test_a_tree_that_runs_already_takes_no_other_key() -> None:
    first = trees.execute_tree(caller=ALICE, tasks=[TASK], llm_key=FIRST)
    second = trees.execute_task(caller=ALICE, task_id="t", llm_key=SECOND)
    assert (first.started, second.started) == (True, False)
    assert kept() == ["0001"]


@pytest.mark.both_engines
def test_a_copy_runs_with_the_key_that_it_was_executed_with() -> None:
    create()
    execution = trees.execute_task(caller=ALICE, task_id="t", copy_execution=True, llm_key=SECOND)
    assert kept(run_id=execution.run.id, tree_id=execution.task.id) == ["0002"]
    assert kept(run_id=None) == ["0001"]


@pytest.mark.both_engines
def test_a_repeated_request_keeps_the_key_once() -> None:
    token = Token(key="again", request_hash="x")
    for _ in range(2):
        idempotency.once(trees.execute_tree, caller=ALICE, token=token, tasks=[TASK], llm_key=FIRST)
    assert (Run.objects.count(), kept()) == (1, ["0001"])


def test_what_is_refused_keeps_no_key() -> None:
    with pytest.raises(TasksError):
        trees.execute_tree(caller=ALICE, tasks=[{"name": "a", "schemas": {"method": "nope"}}], llm_key=FIRST)
    assert not RunSecret.objects.exists()


@pytest.mark.both_engines
def test_a_key_does_not_wait_longer_than_a_day() -> None:
    create()
    row = RunSecret.objects.get()
    assert timedelta(hours=23) < row.expires_at - datetime.now(UTC) <= timedelta(hours=24)
    RunSecret.objects.update(expires_at=datetime.now(UTC))
    trees.execute_task(caller=ALICE, task_id="t")
    assert kept(run_id=None) == ["0001"]  # nobody took it
    run_secrets.erase_expired()
    assert not RunSecret.objects.exists()


@pytest.mark.both_engines
def test_a_deleted_tree_leaves_no_key() -> None:
    create()
    editing.delete_task(caller=ALICE, task_id="t")
    assert not RunSecret.objects.exists()


@pytest.mark.parametrize("moved", [{"tree_id": "other"}, {"user_id": "mallory"}])
def test_a_key_that_was_moved_to_another_row_does_not_open(moved: dict[str, str]) -> None:
    create()
    RunSecret.objects.update(**moved)
    with pytest.raises(CannotUnseal):
        run_secrets.opened(RunSecret.objects.get())


@pytest.mark.both_engines
def test_rotation_seals_what_waits_anew(settings: Settings) -> None:
    create()
    settings.APFLOW_ENCRYPTION_KEYS = ("a new key, long enough to be one.", *settings.APFLOW_ENCRYPTION_KEYS)
    assert keys.rotate() == 1
    settings.APFLOW_ENCRYPTION_KEYS = settings.APFLOW_ENCRYPTION_KEYS[:1]
    assert kept() == ["0001"]


@pytest.mark.crews
@pytest.mark.both_engines
def test_the_names_of_models_are_kept_with_the_key_wherever_they_stand() -> None:
    tasks = [
        {"id": "r", "name": "r", "schemas": {"model": "gpt-4", "input_schema": {"properties": {"llm": {}}}}},
        {"id": "a", "name": "a", "parent_id": "r", "inputs": {"model": "groq/x", "deep": {"model": "not this"}}},
        {
            "id": "b",
            "name": "b",
            "parent_id": "r",
            "schemas": {"method": "crewai_executor"},
            "params": {"works": {"agents": {"x": {"role": "X", "llm": "openai/gpt-4"}}}},
        },
        {
            "id": "c",
            "name": "c",
            "parent_id": "r",
            "inputs": {"works": {"agents": {"y": {"role": "Y", "llm": {"model": "mistral/z", "temperature": 0}}}}},
        },
    ]
    trees.create_tree(caller=ALICE, tasks=tasks, llm_key=SECOND)
    assert RunSecret.objects.get().model_names == ["gpt-4", "groq/x", "mistral/z", "openai/gpt-4"]


@pytest.mark.both_engines
def test_the_key_is_erased_with_the_end_of_its_run(worker: WorkerThread) -> None:
    run = trees.execute_tree(caller=ALICE, tasks=[TASK], llm_key=FIRST).run
    assert kept(run_id=run.id) == ["0001"]
    worker.work()
    run.refresh_from_db()
    assert run.status == "completed"
    assert not RunSecret.objects.exists()
