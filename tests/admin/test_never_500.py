"""The admin answers for every id that may be stored, and for every address that may be typed."""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tasks.models import Run, Task

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]
#: Valid ids of tasks, some of which the address of a page cannot contain.
IDS: Final = (
    "a\nb",
    "a\r\nb",
    "a/b",
    "..",
    "a\tb",
    "\u2028",
    "a%00b",
    "?q=1",
    "#",
    " ",
    "_2F",
    "a\u202eb",
    "'\"<>&",
    "é",
)
NUL: Final = "x\0y"
TYPED: Final = """
/admin/tasks/task/?q=%00 /admin/tasks/task/?id=%00 /admin/tasks/task/?status=%00 /admin/tasks/task/?rows=%00
/admin/tasks/task/?o=%00 /admin/tasks/task/?p=%00 /admin/tasks/task/?created_at__gte=%00 /admin/tasks/task/?created_at__gte=x
/admin/tasks/task/%00/change/ /admin/tasks/run/%00/change/ /admin/tasks/run/?q=%00 /admin/tasks/taskevent/?q=%00
/admin/tasks/taskevent/%00/change/ /admin/tasks/question/?q=%00 /admin/tasks/question/%00/change/ /admin/tasks/webhook/?q=%00
/admin/tasks/webhookdelivery/?q=%00 /admin/tasks/workerprocess/?q=%00 /admin/auth/user/?q=%00 /admin/auth/user/%00/change/
/admin/accounts/apikey/?q=%00 /admin/llmkeys/llmkey/?q=%00 /admin/llmkeys/namedsecret/?q=%00 /admin/search/?s=%00 /admin/tasks/task/%00/history/
/admin/auth/user/99999999999999999999/change/ /admin/tasks/taskevent/99999999999999999999/change/ /admin/%00
/admin/tasks/task/?p=99999999999999999999 /admin/tasks/task/?_to_field=%00 /admin/tasks/task/?id__in=%00
""".split()


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    client.defaults["HTTP_HOST"] = "localhost"
    client.raise_request_exception = False
    return client


def store(task_id: str) -> None:
    now = datetime.now(UTC)
    Task.objects.create(id=task_id, root_id=task_id, user_id="alice", name="n", created_at=now, updated_at=now)
    Run.objects.create(
        id=f"r{task_id}", root_id=task_id, target_id=task_id, context_id="c", user_id="alice", created_at=now
    )


def statuses(admin: Client, paths: list[str]) -> dict[str, int]:
    """The pages that fail, with their status."""
    found = {path: admin.get(path, follow=True).status_code for path in paths}
    return {path: status for path, status in found.items() if status >= 500}


def test_every_id_that_is_stored_has_its_pages(admin: Client) -> None:
    # SQLite may hold an id with a NUL, from a version that accepted it over gRPC.
    ids = [*IDS, *([NUL] if connection.vendor == "sqlite" else [])]
    for task_id in ids:
        store(task_id)
    pages = ["/admin/tasks/task/?rows=all", "/admin/tasks/task/?q=n", "/admin/tasks/run/"]
    pages += [f"/admin/tasks/task/{quote(task_id, safe='')}/change/" for task_id in ids]
    pages += [f"/admin/tasks/run/{quote(f'r{task_id}', safe='')}/change/" for task_id in ids]
    assert not statuses(admin, pages)


def test_no_address_breaks_the_admin(admin: Client) -> None:
    assert not statuses(admin, TYPED)
