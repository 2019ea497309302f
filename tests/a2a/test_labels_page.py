"""docs/how-to/labels.md, typed by a stranger: a label is moved, shared and undone, a policy refuses, and a user's opinion is stored."""

import json

import pytest

from tests.documents import text, texts
from tests.servers import Server, until
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
    waits = {"wait": True, "wait_timeout_seconds": 600}
    ran = open_server.rpc("flows.run", {"name": "welcome@production", "inputs": {"who": "Ada"}, **waits})
    (run,) = open_server.rpc("runs.list", {"task_id": ran["task_id"]})["runs"]
    asked = json.loads(text(PAGE, "Store what users say", "json").replace("RUN_ID", run["id"]))
    reply = open_server.http.post("/tasks", json=asked).json()["result"]
    assert (reply["score"]["value"], reply["score"]["reason"]) == (False, "It was evening.")
    shell.run(f"aipartnerupflow runs feedback {run['id']} true --person", AIPARTNERUPFLOW_URL=open_server.url)
    scores = open_server.rpc("runs.get", {"run_id": run["id"]})["scores"]
    assert [(each["source"], each["value"]) for each in scores] == [("end_user", False), ("person", True)]
    for block in texts(PAGE, "Watch a version with sampled judges", "sh"):
        typed = shell.run(block, AIPARTNERUPFLOW_URL=open_server.url)
    assert json.loads(typed)["evaluator"]["judge"]["rubric"] == "The text is polite."

    def judged() -> bool:
        found = open_server.rpc("judges.list", {"flow": "welcome"})["judges"]
        return [(each["judged"], each["mean"]) for each in found if each["name"] == "length"] == [(1, 11)]

    until(judged, seconds=300, what="the score of the judge")
    page = open_server.http.get("/ui/flows/welcome/").text
    assert '<h2 id="judges">Judges</h2>' in page and "if below 5" in page
    listed = shell.run("aipartnerupflow judges list welcome", AIPARTNERUPFLOW_URL=open_server.url)
    assert [json.loads(line)["name"] for line in listed.splitlines()] == ["length", "polite"]
    shell.run("aipartnerupflow judges delete welcome polite", AIPARTNERUPFLOW_URL=open_server.url)
    shell.run("aipartnerupflow flows unlabel welcome candidate --reason done", AIPARTNERUPFLOW_URL=open_server.url)
    open_server.rpc("flows.delete", {"name": "welcome"})
