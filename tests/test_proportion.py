"""The layers that a request passes stay few."""

import runpy
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync

from accounts.callers import LOCAL
from tasks.services.trees import create_tree

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "count_frames.py"))


@pytest.mark.django_db(transaction=True)
def test_a_request_passes_few_modules_and_few_frames_of_ours() -> None:
    from apflow_site.asgi import application  # noqa: PLC0415  it sets Django up

    task = create_tree(caller=LOCAL, tasks=[{"name": "a"}]).root
    parts = async_to_sync(SCRIPT["passage_of"])(application, task.id).parts()
    assert all(parts.values())
    assert {name: lines for name, lines in parts.items() if len(lines) > SCRIPT["LIMITS"][name]} == {}
