"""A program that is killed at each step of the life of files, one step after the other: what is left is swept, and nothing dangles.

Each life is a process of its own (`os.fork`), which dies by SIGKILL before or after a step. Prints how many lives there were.
"""

import os
import signal
import sys
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
from tasks.rules.exceptions import FileDiffers, TasksError  # noqa: E402
from tasks.services import files, trees  # noqa: E402
from tasks.services.files import Receiving, references  # noqa: E402
from tasks.services.trees import editing  # noqa: E402
from tasks.storage import file_store  # noqa: E402

STEPS: Final[list[tuple[Any, str]]] = [
    (files, "create_file"),
    (files, "complete_file"),
    (files, "delete_file"),
    (files, "give_up"),
    (files, "remove_objects"),
    (files, "forget_objects"),
    (files, "_sweep_files"),
    (file_store.Folder, "append"),
    (file_store.Folder, "remove"),
    (Receiving, "write"),
    (Receiving, "complete"),
    (references, "refer"),
    (references, "release"),
]


def upload(data: bytes, *, digest: str | None = None) -> File:
    file = files.create_file(caller=LOCAL, name="a.bin", size=len(data), sha256=digest)
    receiving = Receiving(file)
    try:
        for start in range(0, len(data), 100_000):
            receiving.write(data[start : start + 100_000])
        receiving.complete()
        file, doomed = files.complete_file(file, size=receiving.size, sha256=receiving.sha256)
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


def life() -> None:
    first = upload(b"x" * 250_000)
    upload(b"x" * 250_000)  # stored once
    upload(b"z" * 10, digest="0" * 64)  # refused
    third = upload(b"y" * 10)
    doomed = files.delete_file(caller=LOCAL, file_id=third.id)
    files.remove_objects(doomed)
    files.forget_objects(doomed)
    kept = trees.create_tree(caller=LOCAL, tasks=[{"name": "echo_executor", "inputs": {"doc": first.value}}])
    with transaction.atomic():
        editing.remove_trees([kept.root.id])
    age()
    files.sweep_files()


def check() -> None:
    """After a sweep there is for each object a row, for each file an object with its bytes, and the counts are true."""
    age()
    files.sweep_files()
    rows = {row.key: row for row in FileBytes.objects.all()}
    objects = {path.name for path in Path(settings.DATA_DIR, "files").glob("*/*")}
    assert objects == rows.keys(), (objects, rows)
    for file in File.objects.select_related("stored"):
        assert file.completed_at is not None
        data = b"".join(files.stored_object(file).read())
        assert sha256(data).hexdigest() == file.sha256 == file.stored.sha256
    assert set(File.objects.values_list("stored_id", flat=True)) == rows.keys()
    used = FileBytes.objects.aggregate(all=Sum("bytes"))["all"] or 0
    assert (FileSpace.objects.aggregate(all=Sum("bytes"))["all"] or 0) == used
    named = set(FileReference.objects.values_list("file_id", "holder"))
    held = {(file["$file"], f"tree:{task.root_id}") for task in Task.objects.all() for file in [task.inputs["doc"]]}
    assert named == held
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


def lives() -> int:
    for death in count(1):
        connection.close()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                moments = count(1)
                for owner, name in STEPS:
                    setattr(owner, name, deadly(getattr(owner, name), moments, death))
                for user in (trees.persist, editing):
                    for name in ("refer", "release"):
                        if hasattr(user, name):
                            setattr(user, name, getattr(references, name))
                life()
                code = 0
            except TasksError as error:
                print(error, file=sys.stderr)  # noqa: T201
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        check()
        clear()
        if not os.WIFSIGNALED(status):
            return death
    raise AssertionError


if __name__ == "__main__":
    prepare()
    print(lives())  # noqa: T201
