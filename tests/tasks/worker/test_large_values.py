"""Large results: they are stored as files, and whoever needs them gets the values."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks import events
from tasks.models import File, FileBytes, FileReference, Run, Task
from tasks.services import files, trees
from tasks.services.runs.run_inputs import with_inputs
from tasks.services.trees import editing, forks
from tasks.storage import file_store
from tasks.worker import large_values
from tests.sections import replace
from tests.servers import until
from tests.workers import Json, Ran, WorkerThread, group, result_of, run_tree

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = len("000000001{{secret.none}}{{{{")
SIZE = 100_000


@pytest.fixture(autouse=True)
def inline(settings: Settings) -> None:
    limited(settings, inline_bytes=65_536)


def limited(settings: Settings, **limits: int) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **limits))


def task(executor: str, name: str, *needs: str, params: Json | None = None, **inputs: Any) -> Json:
    more = {"params": params} if params else {}
    method = {"method": f"{executor}_executor"}
    return {"id": name, "name": name, "schemas": method, "inputs": inputs, "dependencies": list(needs), **more}


def reference(ran: Ran, name: str) -> Json:
    """The result of a task, which is a reference to a file."""
    result: Json = ran.tasks[name].result
    assert (result["$value"], result["name"], result["media_type"]) == (True, "result.json", "application/json")
    return result


def value_of(reference: Json) -> Any:
    file = File.objects.select_related("stored").get(id=reference["$file"])
    assert file.is_made
    return json.loads(b"".join(files.stored_object(file).read()))


@pytest.mark.both_engines
def test_a_large_result_is_a_file_and_those_that_need_it_get_the_value(worker: WorkerThread) -> None:
    ran = run_tree(
        worker,
        group(
            "g",
            task("writing", "doc", number=7, size=SIZE),
            task("writing", "small", number=7, size=10),
            task("measuring", "length", "doc", value="{{doc.text}}"),
            task(
                "echo", "part", "doc", number="{{doc.number}}", page="{{doc.pages.0.n}}", text="Page {{doc.pages.0.n}}"
            ),
            task(
                "echo", "if_seven", "doc", params={"when": {"task": "doc", "path": "/number", "op": "eq", "value": 7}}
            ),
            task(
                "echo", "if_eight", "doc", params={"when": {"task": "doc", "path": "/number", "op": "eq", "value": 8}}
            ),
        ),
    )
    found = reference(ran, "doc")
    assert value_of(found)["number"] == 7
    assert ran.tasks["small"].result["number"] == 7
    assert ran.tasks["length"].result == SIZE + TEXT
    part = value_of(reference(ran, "part"))  # with the document, as echo returns all of its inputs
    assert (part["number"], part["page"], part["text"]) == (7, 7, "Page 7")
    assert part["doc"] == value_of(found)
    assert (ran.statuses()["if_seven"], ran.statuses()["if_eight"]) == ("completed", "skipped")
    ends = [event["result"] for event in ran.events if event["type"] == "task_completed"]
    assert found in ends
    named = set(FileReference.objects.values_list("holder", flat=True))
    assert named == {f"tree:{ran.run.root_id}"}


@pytest.mark.both_engines
def test_a_map_over_large_documents_has_references_and_each_copy_its_document(worker: WorkerThread) -> None:
    numbers = [1, 2, 3]
    first = task("writing", "docs", params={"for_each": {"items": numbers}}, number="{{item}}", size=SIZE)
    second = task(
        "measuring", "lengths", "docs", params={"for_each": {"items": {"task": "docs"}}}, value="{{item.text}}"
    )
    whole_item = task("echo", "seen", "docs", params={"for_each": {"items": {"task": "docs"}}}, doc="{{item}}")
    everything = task("measuring", "all", "docs", value="{{docs}}")
    ran = run_tree(worker, group("g", *maps(first, second, whole_item), everything))
    assert ran.run.status == "completed", [(each.name, each.error) for each in ran.tasks.values() if each.error]
    assert [each["$value"] for each in ran.tasks["docs"].result] == [True, True, True]
    assert ran.tasks["lengths"].result == [SIZE + TEXT] * 3
    assert ran.tasks["all"].result == [SIZE + TEXT] * 3
    assert [value_of(each)["doc"]["number"] for each in ran.tasks["seen"].result] == numbers
    copies = Task.objects.filter(spawned_by=ran.tasks["lengths"].id)
    assert all(len(json.dumps(copy.inputs)) < 1000 for copy in copies)


@pytest.mark.both_engines
def test_a_copy_has_the_values_that_another_run_has_stored(worker: WorkerThread) -> None:
    """What is read from the database, and the life of the file: it is there as long as a tree has it."""
    docs = task("writing", "docs", params={"for_each": {"items": [1, 2]}}, number="{{item}}", size=SIZE)
    every = task("measuring", "all", "docs", value="{{docs}}")
    first = task("measuring", "length", "doc", value="{{doc.text}}")
    ran = run_tree(worker, group("g", task("writing", "doc", number=7, size=SIZE), first, *maps(docs), every))
    again = forks.fork(caller=LOCAL, task_id=ran.tasks["length"].id, start=[ran.tasks["all"].id], inputs={})
    remove(ran.run.root_id)
    worker.work()
    copied = result_of(again.run)
    assert copied.run.status == "completed"
    lengths = [each.result for each in copied.tasks.values() if each.name in ("length", "all")]
    assert sorted(lengths, key=str) == [SIZE + TEXT, [SIZE + TEXT] * 2]
    files.sweep_files()
    assert File.objects.count() == 3
    remove(again.run.root_id)
    files.sweep_files()
    assert not File.objects.exists()


def remove(root_id: str) -> None:
    with transaction.atomic():
        editing.remove_trees([root_id])


def test_values_that_are_too_large_for_a_task_are_refused_by_name(worker: WorkerThread, settings: Settings) -> None:
    limited(settings, value_bytes=SIZE * 2)
    docs = task("writing", "docs", params={"for_each": {"items": [1, 2, 3]}}, number="{{item}}", size=SIZE)
    ran = run_tree(worker, group("g", *maps(docs), task("measuring", "all", "docs", value="{{docs}}")))
    assert "limits.value_bytes" in str(ran.tasks["all"].error)
    assert ran.tasks["docs"].status == "completed"


def test_a_result_larger_than_the_largest_value_fails_by_name(worker: WorkerThread, settings: Settings) -> None:
    limited(settings, value_bytes=SIZE, result_bytes=SIZE)
    ran = run_tree(worker, [task("writing", "doc", number=1, size=SIZE)])
    assert "limits.value_bytes" in str(ran.tasks["doc"].error)
    assert not File.objects.exists()


def test_a_user_without_space_for_files_gets_a_failure_that_says_so(worker: WorkerThread, settings: Settings) -> None:
    limited(settings, file_bytes_per_user=SIZE)
    ran = run_tree(worker, [task("writing", "doc", number=1, size=SIZE)])
    assert "limits.file_bytes_per_user" in str(ran.tasks["doc"].error)
    assert not File.objects.exists()


@pytest.mark.both_engines
def test_a_run_without_room_for_more_results_stores_them_as_files(worker: WorkerThread, settings: Settings) -> None:
    limited(settings, inline_bytes=2**20, run_bytes=2 * SIZE)
    docs = task("writing", "docs", params={"for_each": {"items": [1, 2, 3]}}, number="{{item}}", size=SIZE)
    ran = run_tree(worker, group("g", *maps(docs), task("measuring", "all", "docs", value="{{docs}}")))
    assert ran.run.status == "completed"
    assert ran.tasks["all"].result == [SIZE + TEXT] * 3
    assert File.objects.count() >= 2


def test_three_results_of_a_megabyte_fit_into_a_map_as_it_is_configured(
    worker: WorkerThread, settings: Settings
) -> None:
    limited(settings, inline_bytes=2**20)
    docs = task("writing", "docs", params={"for_each": {"items": [1, 2, 3]}}, number="{{item}}", size=1_000_000)
    ran = run_tree(worker, group("g", *maps(docs), task("measuring", "all", "docs", value="{{docs}}")))
    assert ran.run.status == "completed"
    assert ran.tasks["all"].result == [1_000_000 + TEXT] * 3
    assert [each["number"] for each in value_of(reference(ran, "docs"))] == [1, 2, 3]


def test_a_large_item_in_the_middle_of_a_text_is_refused_with_what_to_do(worker: WorkerThread) -> None:
    docs = task("writing", "docs", params={"for_each": {"items": [1]}}, number="{{item}}", size=SIZE)
    texts = task("echo", "texts", "docs", params={"for_each": {"items": {"task": "docs"}}}, a="It says {{item.text}}")
    ran = run_tree(worker, group("g", *maps(docs, texts)))
    assert "is a large value, which is stored as a file" in str(ran.tasks["texts"].error)


@pytest.mark.both_engines
def test_a_large_input_is_sent_as_a_file_and_named_as_its_value(worker: WorkerThread) -> None:
    """In the inputs of a task, and in those of a run; a map goes over a list in it."""
    given = sent({"text": "x" * SIZE, "list": [{"text": "a"}, {"text": "ab"}]})
    tasks = group(
        "g",
        task("measuring", "of_task", value=given | {"$path": ["text"]}),
        task("measuring", "of_run", value="{{run.inputs.doc.text}}"),
        *maps(task("measuring", "each", value="{{item.text}}", params=over("run", "/inputs/doc/list"))),
    )
    execution = with_inputs(trees.execute_tree, {"doc": given}, caller=LOCAL, tasks=tasks)
    worker.work()
    ran = result_of(execution.run, ids=execution.ids)
    assert [ran.tasks[name].result for name in ("of_task", "of_run", "each")] == [SIZE, SIZE, [1, 2]]


def test_a_file_that_is_no_value_fails_the_task_by_name(worker: WorkerThread) -> None:
    given = sent({"text": "short"})
    ran = run_tree(worker, group("g", task("echo", "a", value=given | {"$path": ["no"]})))
    assert "a large value has no 'no'" in str(ran.tasks["a"].error)


@pytest.mark.both_engines
@pytest.mark.parametrize("result_bytes", [90_000, 2**20])
def test_a_round_has_the_large_result_of_the_one_before_it(
    worker: WorkerThread, settings: Settings, result_bytes: int
) -> None:
    """Its condition, its places, in the middle of a text if it is not too large, and the result of the loop."""
    limited(settings, inline_bytes=65_536, result_bytes=result_bytes)
    is_two = {"path": "/doc/number", "op": "eq", "value": 2}
    repeat = {"until": is_two, "max": 5, "first": {"doc": {"number": 0, "text": "ab"}}}
    says = "It says " if result_bytes > SIZE else ""
    wanted = {"task": "last", "path": "/doc/number", "op": "eq", "value": 1}
    loop = [
        {"id": "loop", "name": "loop", "params": {"repeat": repeat}},
        task("writing", "doc", number="{{round}}", size=SIZE),
        task("measuring", "seen", value=f"{says}{{{{last.doc.text}}}}", params={"when": wanted}),
    ]
    loop = [loop[0], *(each | {"parent_id": "loop"} for each in loop[1:])]
    ran = run_tree(worker, group("g", *loop, task("measuring", "length", "loop", value="{{loop.doc.text}}")))
    assert ran.run.status == "completed", [(each.name, each.error) for each in ran.tasks.values() if each.error]
    assert ran.tasks["length"].result == SIZE + TEXT
    found = ran.tasks["loop"].result
    assert (value_of(found["doc"])["number"], found["seen"]) == (2, SIZE + TEXT + len(says))
    assert Task.objects.filter(spawned_by=ran.tasks["loop"].id, status="skipped").count() == 1


@pytest.mark.both_engines
def test_tasks_that_were_added_move_their_results_and_a_step_gets_them(worker: WorkerThread) -> None:
    """The task that is joined has references; the next step the values."""
    doc = task("writing", "doc", number=7, size=SIZE)
    steps = [{"tasks": [doc | {"id": "one"}]}, {"tasks": [doc | {"id": "two"}]}]
    ran = run_tree(
        worker,
        group(
            "g",
            task("stepping", "steps", steps=steps),
            task("spawning", "joined", tasks=[doc]),
            task("measuring", "length", "joined", value="{{joined.doc.text}}"),
        ),
    )
    assert ran.run.status == "completed", [(each.name, each.error) for each in ran.tasks.values() if each.error]
    assert ran.tasks["joined"].result["doc"]["$value"]
    assert ran.tasks["length"].result == SIZE + TEXT
    got = value_of(reference(ran, "steps"))["got"]
    assert [(name, end["result"]["number"]) for answer in got for name, end in answer.items()] == [
        ("one", 7),
        ("two", 7),
    ]


def over(source: str, path: str) -> Json:
    return {"for_each": {"items": {"task": source, "path": path}}}


def sent(value: Json) -> Json:
    """A value that a client has uploaded as JSON."""
    data = json.dumps(value).encode()
    file = files.create_file(caller=LOCAL, name="large.json", size=len(data))
    receiving = files.Receiving(file)
    receiving.write(data)
    receiving.complete()
    receiving.close()
    return files.complete_file(file, size=len(data), sha256=receiving.sha256)[0].value | {"$value": True}


def maps(*tasks: Json) -> list[Json]:
    """The maps, each with its task as the template."""
    found = []
    for each in tasks:
        params, needs = each.pop("params"), each.pop("dependencies")
        name = each["id"]
        found.append({"id": name, "name": name, "params": params, "dependencies": needs})
        found.append(each | {"id": f"{name}-one", "parent_id": name, "dependencies": []})
    return found


@pytest.fixture
def broken_folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A folder of the files in which nothing can be stored, until the file that is in its place is removed."""
    settings.FILES_DIR = tmp_path / "files"
    settings.FILES_DIR.write_text("no folder")
    file_store.store.cache_clear()
    yield settings.FILES_DIR
    file_store.store.cache_clear()


@pytest.mark.both_engines
def test_a_result_waits_for_a_store_that_fails_and_its_work_is_not_repeated(
    worker: WorkerThread, broken_folder: Path
) -> None:
    execution = trees.execute_tree(caller=LOCAL, tasks=[task("writing", "doc", number=7, size=SIZE)])
    working = threading.Thread(target=worker.work)
    working.start()
    until(lambda: "the files fails" in logged(execution.run), seconds=60, what="a failure of the store")
    broken_folder.unlink()
    working.join()
    ran = result_of(execution.run, ids=execution.ids)
    assert value_of(reference(ran, "doc"))["number"] == 7
    assert ran.tasks["doc"].attempt == 1
    assert File.objects.count() == 1


def test_a_store_that_stays_away_fails_the_task_with_what_to_do_and_leaves_nothing(
    worker: WorkerThread, broken_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_values, "PATIENCE_SECONDS", 0.0)
    ran = run_tree(worker, [task("writing", "doc", number=7, size=SIZE)])
    assert "could not be stored as a file" in str(ran.tasks["doc"].error)
    assert "Try again later" in str(ran.tasks["doc"].error)
    assert (File.objects.count(), files.space_of("local")) == (0, 0)


@pytest.mark.both_engines
@pytest.mark.parametrize("fails_until", [3, 9])
def test_files_of_failed_attempts_stay_with_their_tree_and_go_with_it(worker: WorkerThread, fails_until: int) -> None:
    """Also those of a task that never completes; but not those that an attempt has only begun."""
    retry = {"retry": {"max_attempts": 3, "backoff_seconds": 0}}
    ran = run_tree(
        worker,
        [task("scripted", "tries", params=retry, saves="attempt", fails_until_attempt=fails_until)],
    )
    assert ran.run.status == ("completed" if fails_until == 3 else "failed")
    files.sweep_files()
    kept = File.objects.select_related("stored").order_by("name")
    texts = {file.name: b"".join(files.stored_object(file).read()) for file in kept}
    assert texts == {f"{number}.txt": f"attempt {number}".encode() for number in (1, 2, 3)}
    listed = files.list_files(caller=LOCAL, limit=10, root_id=ran.run.root_id)
    assert {file.name for file in listed} == texts.keys()
    remove(ran.run.root_id)
    files.sweep_files()
    assert (File.objects.count(), FileBytes.objects.count(), files.space_of("local")) == (0, 0, 0)


def logged(run: Run) -> str:
    return " ".join(event.get("message") or "" for event in events.read(run_id=run.id, limit=1_000))
