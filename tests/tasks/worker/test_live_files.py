"""Files in workflows as code: steps read and return them, the code passes them on, and a death loses and repeats none."""

from pathlib import Path

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from aipartnerupflow.executors import File
from aipartnerupflow.executors.files import FILE_SCHEMA
from aipartnerupflow.workflows import step
from tasks.models import File as StoredFile
from tasks.models import FileReference, Run, Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import files, trees
from tasks.services.files import Receiving
from tests import file_workflows
from tests.documents import text
from tests.file_workflows import FOLDER, RAN
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
DEATHS = 6


@pytest.fixture(autouse=True)
def workflows(stage: Stage, settings: Settings, tmp_path: Path) -> None:
    settings.APFLOW_EXECUTOR_MODULES = ("tests.file_workflows",)
    settings.FILES_DIR = tmp_path / "store"
    forget_registry()
    RAN.clear()
    FOLDER[:] = [tmp_path]


def stored(data: bytes) -> Json:
    file = files.create_file(caller=LOCAL, name="rivers.txt", media_type=None, size=len(data))
    receiving = Receiving(file)
    receiving.write(data)
    receiving.complete()
    completed, _ = files.complete_file(file, size=receiving.size, sha256=receiving.sha256)
    receiving.close()
    return completed.value


def content(value: Json) -> bytes:
    return b"".join(files.stored_object(files.get_file(caller=LOCAL, file_id=value["$file"])).read(0, value["bytes"]))


def started(**inputs: object) -> Run:
    task = {"id": "w", "name": "w", "schemas": {"method": "workflow:report"}, "inputs": inputs}
    return trees.execute_tree(caller=LOCAL, tasks=[task]).run


@at_any_moment(DEATHS, both_engines={3, 4})
def test_a_file_is_made_once_and_used_whenever_a_worker_dies(stage: Stage, items: int, after: bool) -> None:
    given = stored(b"Rhine, Nile")
    run = started(document=given)
    stage.die_and_take_over(Fuse(items=items, after=after))
    ran = result_of(run)
    root = ran.tasks["w"]
    assert (ran.run.status, root.error, root.result["kind"]) == ("completed", None, "text/markdown")
    assert content(root.result["joined"]) == b"rivers.txt: Rhine, Nile"
    made = ran.tasks["w/1"].result
    assert (made["name"], content(made)) == ("made.md", b"rivers.txt: ")
    assert [each["$file"] for each in ran.tasks["w/2"].inputs["arguments"]["documents"]] == [
        made["$file"],
        given["$file"],
    ]
    assert FileReference.objects.filter(holder="tree:w", file_id__in=[given["$file"], made["$file"]]).count() == 2


@pytest.mark.both_engines
def test_a_file_whose_step_has_ended_is_not_made_again(stage: Stage) -> None:
    """The worker dies between the step that makes the file and the one that uses it."""
    run = started(document=stored(b"Nile"))
    first = stage.bear()
    stage.until_nothing(lambda: not Task.objects.filter(id="w/1", status="completed") and first.woken_for_open_runs())
    first.kill()
    stage.take_over()
    assert result_of(run).tasks["w"].result["joined"]["name"] == "joined.txt"
    assert RAN.count("write") == 1
    assert StoredFile.objects.filter(name="made.md").count() == 1


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"document": "rivers.txt"}, "document"),
        ({"document": {"$file": "0" * 36}}, "there is no complete file"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_stored(inputs: Json, says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        started(**inputs)
    assert not Task.objects.exists()


def test_the_code_of_a_workflow_has_no_bytes_of_a_file(stage: Stage) -> None:
    run = started(document=stored(b"Nile"), opens=True)
    stage.until_nothing(stage.bear().woken_for_open_runs)
    root = result_of(run).tasks["w"]
    assert "The bytes of the file 'rivers.txt' are not here. A step has them" in str(root.error)


def test_the_workflow_of_the_page_shortens_a_file(
    stage: Stage, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = text("docs/how-to/workflows.md", "Files", "python").replace(
        "idempotent=True", 'idempotent=True, pool="thread"'
    )
    (tmp_path / "archive_of_page.py").write_text(code)  # a process of a pool would not know the module
    monkeypatch.syspath_prepend(tmp_path)
    settings.APFLOW_EXECUTOR_MODULES = ("archive_of_page",)
    forget_registry()
    task = {"id": "w", "name": "w", "schemas": {"method": "workflow:archive"}}
    run = trees.execute_tree(
        caller=LOCAL, tasks=[task | {"inputs": {"document": stored(b"Rivers flow to the sea.")}}]
    ).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    result = result_of(run).tasks["w"].result
    assert (result["name"], content(result)) == ("short.txt", b"Rivers flow to the s")


async def test_the_schema_asks_for_a_file_and_a_local_one_is_refused(tmp_path: Path) -> None:
    assert file_workflows.report.input_schema["properties"]["document"] == FILE_SCHEMA
    local = File(tmp_path / "a.txt")
    with pytest.raises(TypeError, match=r"File\('a.txt'\) is not saved: a step on a server saves one"):
        file_workflows.report.as_task(local)
    task = file_workflows.report.as_task(File.of({"$file": "f-1", "name": "a.txt"}))
    assert task["inputs"] == {"document": {"$file": "f-1", "name": "a.txt"}}
    plain = step(lambda document: document)
    assert await plain(local) is local
