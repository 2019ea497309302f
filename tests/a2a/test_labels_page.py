"""docs/how-to/labels.md, typed by a stranger: a label is moved, shared and undone, a policy refuses, and a user's opinion is stored."""

import json

import pytest

from tests.documents import text
from tests.servers import Server
from tests.shell import Shell, new_shell

pytestmark = pytest.mark.both_engines

PAGE = "docs/how-to/labels.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell, open_server: Server) -> None:
    (shell.folder / "welcome.yaml").write_text(text(PAGE, "Move a label", "yaml"))
    typed = shell.run(text(PAGE, "Move a label", "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    assert "Hello Ada" in typed
    found = open_server.rpc("flows.labels", {"name": "welcome"})["labels"]
    assert [(each["label"], each["version"], each["shares"]) for each in found] == [
        ("candidate", 2, {}),
        ("production", 1, {}),
    ]
    shell.run(text(PAGE, "Require an experiment", "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    refused = open_server.http.put(
        "/api/flows/welcome/labels/", json={"label": "production", "version": 2, "reason": "untested"}
    )
    assert refused.status_code == 400
    assert "the data set 'greetings', which does not exist" in refused.text
    ran = open_server.rpc("flows.run", {"name": "welcome@production", "inputs": {"who": "Ada"}})
    (run,) = open_server.rpc("runs.list", {"task_id": ran["task_id"]})["runs"]
    asked = json.loads(text(PAGE, "Store what users say", "json").replace("RUN_ID", run["id"]))
    reply = open_server.http.post("/tasks", json=asked).json()["result"]
    assert (reply["score"]["value"], reply["score"]["reason"]) == (False, "It was evening.")
    shell.run(f"aipartnerupflow runs feedback {run['id']} true --person", AIPARTNERUPFLOW_URL=open_server.url)
    scores = open_server.rpc("runs.get", {"run_id": run["id"]})["scores"]
    assert [(each["source"], each["value"]) for each in scores] == [("end_user", False), ("person", True)]
    shell.run("aipartnerupflow flows unlabel welcome candidate --reason done", AIPARTNERUPFLOW_URL=open_server.url)
    open_server.rpc("flows.delete", {"name": "welcome"})
