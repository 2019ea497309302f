"""GET requests from the cache: equal ones are sent once, also with headers that a key leaves out."""

import pytest

from accounts.callers import LOCAL
from tasks.services import trees
from tests.tasks.executors.conftest import Web
from tests.workers import Json, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.usefixtures("allow_loopback")]


def test_equal_requests_are_sent_once(worker: WorkerThread, web: Web) -> None:
    web.answer(200, b'{"n": 1}', Content_Type="application/json")
    cache = {"for": "1h", "key": ["inputs.url"]}

    def asked(name: str, cache: Json | str, **inputs: Json) -> Json:
        method = {"method": "rest_executor"}
        task = {"id": name, "name": name, "schemas": method, "inputs": {"url": web.url, **inputs}}
        run = trees.execute_tree(caller=LOCAL, tasks=[{**task, "params": {"cache": cache}}]).run
        worker.work()
        ended = result_of(run).tasks[name]
        assert (ended.status, ended.error) == ("completed", None)
        return dict(ended.result)

    first = asked("plain", "1h")
    assert asked("again", "1h") == first
    assert len(web.received) == 1
    for name in ("alice", "bob"):
        asked(name, cache, headers={"X-Name": name})
    assert [request.headers.get("x-name") for request in web.received] == [None, "alice"]
