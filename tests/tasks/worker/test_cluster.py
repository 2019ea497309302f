"""Imports of the processes of a server: the one that workers are forked from, and a web process."""

import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from tasks.own_process import without
from tests.servers import ROOT

IMPORT: Final = """
import sys
import tasks.worker.cluster
heavy = "a2a.endpoints crewai grpc jwt litellm psycopg rich tasks.admin tasks.dashboard.views twisted".split()
print([name for name in heavy if name in sys.modules])
"""


def test_on_sqlite_it_imports_no_page_and_no_client_of_another_database() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stdout


WEB: Final = """
import sys
from apflow_site import asgi
asgi.load_views()
heavy = "django_q.cluster drf_spectacular markdown psycopg pygments requests tasks.admin tasks.worker.engine".split()
print([name for name in heavy if name in sys.modules])
import requests, markdown
from django.urls import reverse
print(reverse("admin:tasks_task_changelist"), "tasks.admin" in sys.modules)
"""


def test_a_web_process_imports_the_admin_and_the_document_of_its_api_when_they_are_used() -> None:
    done = subprocess.run([sys.executable, "-c", WEB], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n/admin/tasks/task/ True\n", done.stdout


def test_a_module_is_left_out_in_the_block_and_on_its_thread_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("left_out_here", "used_elsewhere"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with without("left_out_here", "used_elsewhere"):
        with pytest.raises(ModuleNotFoundError, match="left_out_here"):
            import_module("left_out_here")
        other = threading.Thread(target=import_module, args=["used_elsewhere"])
        other.start()
        other.join()
        assert import_module("used_elsewhere").__name__ in sys.modules
    assert import_module("left_out_here").__name__ in sys.modules
