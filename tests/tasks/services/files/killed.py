"""A program that is killed at each step of the life of files, one step after the other: what is left is swept, and nothing dangles.

Each life is a process of its own (`os.fork`), which dies by SIGKILL before or after a step. Prints how many lives there were.
"""

import os
import signal
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final

from aipartnerupflow import bootstrap

bootstrap()

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import Sum  # noqa: E402

from accounts.callers import LOCAL  # noqa: E402
from apflow_site.prepare import prepare  # noqa: E402
from tasks.models import File, FileBytes, FileReference, FileSpace, Task  # noqa: E402
from tasks.rules.exceptions import FileDiffers  # noqa: E402
from tasks.services import files, trees  # noqa: E402
from tasks.services.files import Receiving, references  # noqa: E402
from tasks.services.trees import editing  # noqa: E402
from tasks.storage import file_store  # noqa: E402
from tests.s3_server import Bucket  # noqa: E402


def store_class() -> type[Any]:
    """The store of this run. Its library does not survive a fork, so only the children open it."""
    if settings.APFLOW.files.store is None:
        return file_store.Folder
    from tasks.storage.s3_store import S3  # noqa: PLC0415

    return S3


def objects() -> set[str]:
    """The keys of all objects in the store."""
    if settings.APFLOW.files.store is None:
        return {path.name for path in Path(settings.DATA_DIR, "files").glob("*/*")}
    return set(Bucket(endpoint=str(settings.APFLOW.files.s3_endpoint)).objects())


STEPS: Final[list[tuple[Any, str]]] = [
    (files, "create_file"),
    (files, "complete_file"),
    (files, "delete_file"),
    (files, "give_up"),
    (files, "remove_objects"),
    (files, "forget_objects"),
    (files, "_sweep_files"),
    (store_class(), "append"),
    (store_class(), "remove"),
    (Receiving, "write"),
    (Receiving, "complete"),
    (references, "refer"),
    (references, "release"),
]


def upload(data: bytes, *, digest: str | None = None, root_id: str | None = None) -> File:
    """Send a file; with `root_id`, as a task of that tree does whose large result becomes a file."""
    size = len(data) if root_id is None else None
    file = files.create_file(caller=LOCAL, name="a.bin", size=size, sha256=digest, is_made=root_id is not None)
    receiving = Receiving(file)
    try:
        for start in range(0, len(data), 100_000):
            receiving.write(data[start : start + 100_000])
        receiving.complete()
        file, doomed = files.complete_file(file, size=receiving.size, sha256=receiving.sha256, root_id=root_id)
    except FileDiffers:
        doomed = files.give_up(file)
    finally:
        receiving.close()
    files.remove_objects(doomed)
    files.forget_objects(doomed)
    return file


def age() -> None:
    """Let everything be as old as needed."""
    old = datetime.now(UTC) - timedelta(days=400)
    File.objects.filter(touched_at__isnull=False).update(touched_at=old)
    File.objects.filter(unused_since__isnull=False).update(unused_since=old)
    FileBytes.objects.filter(doomed_at__isnull=False).update(doomed_at=old)


def life() -> None:
    first = upload(b"x" * 250_000)
    upload(b"x" * 250_000)  # stored once
    upload(b"z" * 10, digest="0" * 64)  # refused
    third = upload(b"y" * 10)
    doomed = files.delete_file(caller=LOCAL, file_id=third.id)
    files.remove_objects(doomed)
    files.forget_objects(doomed)
    kept = trees.create_tree(caller=LOCAL, tasks=[{"name": "echo_executor", "inputs": {"doc": first.value}}])
    upload(b"w" * 200_000, root_id=kept.root.id)
    with transaction.atomic():
        editing.remove_trees([kept.root.id])
    age()
    files.sweep_files()


def check() -> None:
    """After a sweep there is for each object a row, for each file an object with its bytes, and the counts are true."""
    for _ in range(2):  # the second removes what the first has doomed just now
        age()
        files.sweep_files()
    rows = {row.key: row for row in FileBytes.objects.all()}
    found = objects()
    assert found == rows.keys(), (found, rows)
    for file in File.objects.select_related("stored"):
        assert file.completed_at is not None
        data = b"".join(files.stored_object(file).read())
        assert sha256(data).hexdigest() == file.sha256 == file.stored.sha256
    assert set(File.objects.values_list("stored_id", flat=True)) == rows.keys()
    used = FileBytes.objects.aggregate(all=Sum("bytes"))["all"] or 0
    assert (FileSpace.objects.aggregate(all=Sum("bytes"))["all"] or 0) == used
    named = set(FileReference.objects.values_list("file_id", "holder"))
    held = {(file["$file"], f"tree:{task.root_id}") for task in Task.objects.all() for file in [task.inputs["doc"]]}
    assert held <= named  # a tree also names what its tasks have made, before a result does
    assert {holder for _, holder in named} <= {f"tree:{task.root_id}" for task in Task.objects.all()}
    assert {file_id for file_id, _ in held} <= set(File.objects.values_list("id", flat=True))


def clear() -> None:
    with transaction.atomic():
        editing.remove_trees(list(Task.objects.values_list("root_id", flat=True)))
    check()
    assert not File.objects.exists()
    assert not FileBytes.objects.exists()


def deadly(function: Callable[..., Any], moments: Any, death: int) -> Callable[..., Any]:
    @wraps(function)
    def step(*arguments: Any, **options: Any) -> Any:
        if next(moments) == death:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if next(moments) == death:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return step


def in_child(work: Callable[[], Any]) -> int:
    """Do the work in a process of its own. Returns the signal that ended it, or 0; its failure fails this one, too."""
    connection.close()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def lives() -> int:
    for death in count(1):

        def dying(death: int = death) -> None:
            moments = count(1)
            for owner, name in STEPS:
                setattr(owner, name, deadly(getattr(owner, name), moments, death))
            for user in (trees.persist, editing):
                for name in ("refer", "release"):
                    if hasattr(user, name):
                        setattr(user, name, getattr(references, name))
            life()

        ended_by = in_child(dying)
        in_child(check)
        in_child(clear)
        if not ended_by:
            return death
    raise AssertionError


if __name__ == "__main__":
    prepare()
    print(lives())  # noqa: T201
