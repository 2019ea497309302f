"""The life of files: what names them keeps them, and a death at any step leaves neither a leak nor a file without bytes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from accounts.callers import LOCAL, Caller
from llmkeys.cipher import CannotUnseal
from tasks.models import File, FileBytes, FileReference, RunInputs, SentEvent
from tasks.rules.exceptions import CannotDelete, FileNotFound, InvalidParams, LimitReached
from tasks.services import files, flows, schedules, trees
from tasks.services.files import Receiving, references
from tasks.services.files.references import named_in
from tasks.services.runs.run_inputs import with_inputs
from tasks.services.secrets.resealing import reseal
from tasks.services.trees import copies, editing
from tasks.services.upkeep import housekeeping
from tasks.services.waits import sent_events
from tasks.storage import file_store
from tasks.storage.file_store import PIECE, SEALED_PIECE, ObjectDamaged
from tests.s3_server import Bucket, running_bucket
from tests.sections import replace
from tests.servers import ROOT, environment_of, new_database

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ALICE, BOB = Caller(user_id="alice"), Caller(user_id="bob")
LONG_AGO = datetime.now(UTC) - timedelta(days=400)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with running_bucket() as found:
        yield found


@pytest.fixture(params=["folder", "bucket"], autouse=True)
def store(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """The store of these tests: the folder of the settings, or a bucket."""
    if request.param == "bucket":
        bucket: Bucket = request.getfixturevalue("bucket")
        given = {name.removeprefix("AIPARTNERUPFLOW_FILES_").lower(): value for name, value in bucket.settings.items()}
        settings.APFLOW = replace(settings.APFLOW, files=replace(settings.APFLOW.files, **given))
    file_store.store.cache_clear()
    yield request.param
    file_store.store.cache_clear()


def stored(data: bytes = b"text", *, caller: Caller = ALICE, **options: Any) -> dict[str, Any]:
    """A complete file, as a value."""
    file = files.create_file(caller=caller, name="a.txt", size=len(data), **options)
    receiving = Receiving(file)
    receiving.write(data)
    receiving.complete()
    receiving.close()
    file, doomed = files.complete_file(file, size=receiving.size, sha256=receiving.sha256)
    files.remove_objects(doomed)
    files.forget_objects(doomed)
    return file.value


def tree(*values: Any, caller: Caller = ALICE) -> str:
    tasks = [{"name": "echo_executor", "inputs": {"list": list(values)}}]
    return trees.create_tree(caller=caller, tasks=tasks).root.id


def remove(*root_ids: str) -> None:
    with transaction.atomic():
        editing.remove_trees(root_ids)


def sweep() -> set[str]:
    """Sweep as if all that is unused had been so for long. Returns the ids of the files that are left."""
    File.objects.filter(unused_since__isnull=False).update(unused_since=LONG_AGO)
    FileBytes.objects.filter(doomed_at__isnull=False).update(doomed_at=LONG_AGO)
    files.sweep_files()
    FileBytes.objects.filter(doomed_at__isnull=False).update(doomed_at=LONG_AGO)
    files.sweep_files()
    assert set(File.objects.values_list("stored_id", flat=True)) == set(FileBytes.objects.values_list("key", flat=True))
    return set(File.objects.values_list("id", flat=True))


def test_a_file_stays_as_long_as_a_tree_names_it() -> None:
    file = stored()
    first, second = tree(file), tree({"deep": [[file, file]]})
    with pytest.raises(CannotDelete, match=first):
        files.delete_file(caller=ALICE, file_id=file["$file"])
    remove(first)
    assert sweep() == {file["$file"]}
    remove(second)
    assert sweep() == set()
    assert not FileReference.objects.exists()


def test_a_file_that_nothing_named_goes_after_its_days_and_one_of_a_run_with_its_tree() -> None:
    uploaded, made = stored(b"a"), stored(b"b", is_made=True)
    files.sweep_files()
    assert File.objects.count() == 2
    remove(tree(uploaded, made))
    files.sweep_files()
    assert [file.id for file in File.objects.all()] == [uploaded["$file"]]


def test_a_tree_keeps_the_files_that_its_tasks_make_before_their_results_are_stored() -> None:
    root = tree("no file")
    file = files.create_file(caller=ALICE, name="made", size=1, is_made=True)
    receiving = Receiving(file)
    receiving.write(b"x")
    receiving.complete()
    receiving.close()
    made, _ = files.complete_file(file, size=1, sha256=receiving.sha256, root_id=root)
    assert sweep() == {made.id}
    late = files.create_file(caller=ALICE, name="late", size=0, is_made=True)
    remove(root)
    with pytest.raises(FileNotFound):
        files.complete_file(late, size=0, sha256="0" * 64, root_id=root)
    files.remove_objects(files.give_up(late))
    assert sweep() == set()


@pytest.mark.parametrize("value", [{"$file": "no-such-file"}, {"$file": "0" * 36}, "of bob", "unfinished"])
def test_a_file_of_another_user_is_none(value: Any) -> None:
    if value == "of bob":
        value = stored(caller=BOB)
    if value == "unfinished":
        value = {"$file": files.create_file(caller=ALICE, name="a", size=3).id}
    with pytest.raises(InvalidParams, match="there is no complete file"):
        tree(value)
    assert not FileReference.objects.exists()


def test_copies_flows_schedules_and_inputs_of_runs_name_files() -> None:
    document, other = stored(b"document"), stored(b"other")
    root = tree(document)
    copy = copies.copy_tree(caller=ALICE, task_id=root)
    remove(root)
    assert sweep() >= {document["$file"]}
    remove(copy.root.id)
    other = stored(b"other")
    flow = flows.save_flow(caller=ALICE, name="f", tasks=[{"name": "echo_executor", "inputs": {"x": other}}])
    planned = schedules.create_schedule(
        caller=ALICE, fields={"tasks": [{"name": "echo_executor", "inputs": {"x": other}}], "at": "2999-01-01T00:00"}
    )
    flows.delete_flow(caller=ALICE, name=flow.flow.name)
    assert sweep() == {other["$file"]}
    schedules.delete_schedule(caller=ALICE, schedule_id=planned.id)
    given = stored(b"given")
    tasks = [{"name": "echo_executor", "inputs": {"x": "{{run.inputs.doc}}"}}]
    execution = with_inputs(trees.execute_tree, {"doc": given}, caller=ALICE, tasks=tasks)
    assert RunInputs.objects.get(run_id=execution.run.id).inputs == {"doc": given}
    assert sweep() == {given["$file"]}
    task = trees.create_tree(caller=ALICE, tasks=[{"name": "echo_executor"}]).root
    later = stored(b"later")
    editing.update_task(caller=ALICE, task_id=task.id, changes={"inputs": {"x": later}})
    assert sweep() == {given["$file"], later["$file"]}


def test_a_tree_without_a_file_makes_no_query_for_it(django_assert_num_queries: Any) -> None:
    assert named_in({"a": [1, {"b": "file"}]}, None) == set()
    with django_assert_num_queries(0):
        references.refer("tree:x", named_in({"x": 1}), owner="alice")


def test_space_is_taken_and_given_back(settings: Any) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, file_bytes_per_user=10))
    first = stored(b"12345678")
    with pytest.raises(LimitReached, match=r"limits\.file_bytes_per_user"):
        stored(b"abc")
    assert files.space_of("alice") == 8
    stored(b"abc", caller=BOB)
    doomed = files.delete_file(caller=ALICE, file_id=first["$file"])
    assert files.space_of("alice") == 0
    files.remove_objects(doomed)


def test_an_encrypted_file_outlives_a_change_of_the_keys(settings: Any) -> None:
    settings.APFLOW = replace(settings.APFLOW, files=replace(settings.APFLOW.files, encrypt=True))
    settings.APFLOW_ENCRYPTION_KEYS = ("first-key-0123456789-0123456789-0123456789",)
    data = bytes(range(256)) * 1000
    value = stored(data)
    settings.APFLOW_ENCRYPTION_KEYS = ("second-key-0123456789-0123456789-012345678", *settings.APFLOW_ENCRYPTION_KEYS)
    assert reseal() == 1
    settings.APFLOW_ENCRYPTION_KEYS = settings.APFLOW_ENCRYPTION_KEYS[:1]
    file = files.get_file(caller=ALICE, file_id=value["$file"])
    assert b"".join(files.stored_object(file).read()) == data
    moved = FileBytes.objects.get()
    moved.key = "0" * 36
    with pytest.raises(CannotUnseal):
        files.stored_object(File(stored=moved, bytes=1))


@pytest.mark.parametrize("change", ["a byte", "pieces swapped", "cut at a piece", "gone"])
def test_a_damaged_object_is_an_error_and_never_other_bytes(
    settings: Any, change: str, store: str, request: pytest.FixtureRequest
) -> None:
    settings.APFLOW = replace(settings.APFLOW, files=replace(settings.APFLOW.files, encrypt=True))
    value = stored(bytes(3 * PIECE))
    file = files.get_file(caller=ALICE, file_id=value["$file"])
    key = file.stored.key
    path = Path(settings.DATA_DIR, "files", key[-2:], key)
    bucket: Bucket | None = request.getfixturevalue("bucket") if store == "bucket" else None
    sealed = bytearray(bucket.objects()[key] if bucket else path.read_bytes())
    if change == "a byte":
        sealed[SEALED_PIECE + 20] ^= 1
    elif change == "pieces swapped":
        sealed[:] = sealed[SEALED_PIECE : 2 * SEALED_PIECE] + sealed[:SEALED_PIECE] + sealed[2 * SEALED_PIECE :]
    elif change == "cut at a piece":
        del sealed[2 * SEALED_PIECE :]
    file_store.store().remove(key)
    if change != "gone" and bucket:
        bucket.put(f"{key}/{0:015}", bytes(sealed))
    elif change != "gone":
        path.write_bytes(sealed)
    with pytest.raises(ObjectDamaged):
        list(files.stored_object(file).read())


def test_a_death_at_any_step_leaves_nothing_that_a_sweep_does_not_remove(tmp_path: Path, store: str) -> None:
    with new_database() as database_url, running_bucket() if store == "bucket" else nullcontext() as own_bucket:
        environment = environment_of(database_url, tmp_path) | {"DJANGO_SETTINGS_MODULE": "apflow_site.settings"}
        environment["AIPARTNERUPFLOW_FILES_SYNC"] = "never"  # the machine lives on
        if own_bucket is not None:
            environment |= own_bucket.settings
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.tasks.services.files.killed"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 40, done.stdout
    assert LOCAL.user_id == "local"


def test_an_input_that_must_be_a_file_is_one_of_the_owner() -> None:
    own, other = stored(), stored(b"other", caller=BOB)
    unfinished = files.create_file(caller=ALICE, name="b.txt", size=1)
    schema = {"properties": {"doc": {"format": "file"}, "pages": {"type": "array", "items": {"format": "file"}}}}
    tasks = [{"name": "echo_executor", "inputs": {"doc": "{{run.inputs.doc}}"}}]
    flows.save_flow(caller=ALICE, name="asks", tasks=tasks, inputs_schema=schema)
    for inputs, place, file_id in (
        ({"doc": other}, "inputs.doc", other["$file"]),
        ({"doc": {"$file": "absent"}}, "inputs.doc", "absent"),
        ({"doc": own, "pages": [own, {"$file": unfinished.id}]}, "inputs.pages[1]", unfinished.id),
    ):
        with pytest.raises(InvalidParams) as refused:
            flows.run_flow(caller=ALICE, name="asks", inputs=inputs)
        assert refused.value.problems == [(place, f"there is no complete file '{file_id}' of this owner")]
    assert not RunInputs.objects.exists()
    execution = flows.run_flow(caller=ALICE, name="asks", inputs={"doc": own, "pages": [own]})
    listed = files.list_files(caller=ALICE, limit=10, root_id=execution.task.root_id)
    assert [file.id for file in listed] == [own["$file"]]
    assert files.list_files(caller=BOB, limit=10, root_id=execution.task.root_id) == []


def test_a_permit_is_for_one_owner_and_ends_with_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    permit = files.permit_for("alice", by="bob")
    assert files.permitted_owner(permit) == "alice"
    for wrong in ("", permit + "x", files.upload_token(files.create_file(caller=ALICE, name="a", size=1))):
        with pytest.raises(InvalidParams):
            files.permitted_owner(wrong)
    monkeypatch.setattr(files, "PERMIT_SECONDS", -1)
    with pytest.raises(InvalidParams):
        files.permitted_owner(permit)
    monkeypatch.undo()
    User.objects.create_user("bob", is_active=False)
    with pytest.raises(InvalidParams):
        files.permitted_owner(permit)


def test_an_event_keeps_its_files_from_the_moment_it_is_sent(settings: Any) -> None:
    first, other = stored(b"first"), stored(b"other", caller=BOB)
    for _ in range(2):
        sent_events.store("alice", "scanned", {"pages": [first, {"doc": other}, {"$file": "absent"}]}, "one")
    assert sweep() == {first["$file"]}
    with pytest.raises(CannotDelete, match=r"events\.sent_days"):
        files.delete_file(caller=ALICE, file_id=first["$file"])
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, events_per_user=1))
    second = stored(b"second")
    sent_events.store("alice", "scanned", second, "two")  # one more than are stored
    assert sweep() == {second["$file"]}
    SentEvent.objects.update(received_at=LONG_AGO)
    housekeeping.keep_house()
    assert (sweep(), SentEvent.objects.count(), FileReference.objects.count()) == (set(), 0, 0)
