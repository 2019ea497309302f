"""docs/how-to/evaluate.md, typed by a stranger: two versions of a flow are compared, and CI passes."""

import json
import re
from xml.etree import ElementTree as Xml

import pytest

from tests.documents import text
from tests.servers import Server
from tests.shell import Shell, new_shell

pytestmark = pytest.mark.both_engines

PAGE = "docs/how-to/evaluate.md"
COMPARE = "Compare two versions"
VARIANTS = "Compare models, prompts and workflows"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell, open_server: Server) -> None:
    (shell.folder / "label.yaml").write_text(text(PAGE, COMPARE, "yaml"))
    (shell.folder / "messages.csv").write_text(text(PAGE, COMPARE, "csv"))
    typed = shell.run(text(PAGE, COMPARE, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    said = re.compile(r"accuracy: Version 2 is better by 0\.60 \(0\.\d0 to [01]\.\d0\)\.")
    assert said.search(text(PAGE, COMPARE, "text"))
    assert said.search(typed), typed
    suites = Xml.parse(shell.folder / "junit.xml").getroot()
    assert [(each.get("tests"), each.get("failures"), each.get("errors")) for each in suites] == [
        ("10", "7", "0"),
        ("10", "1", "0"),
    ]
    typed = shell.run(text(PAGE, VARIANTS, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    assert "accuracy: Not enough cases to tell: all is billing is better by 0.00 (" in typed, typed
    (asked,) = [json.loads(text(PAGE, "Over the interfaces", "json"))]
    reply = open_server.http.post("/tasks", json=asked).json()["result"]
    assert reply["status"] == "completed"
    found = open_server.rpc("evals.get", {"experiment_id": reply["task_id"]})
    assert [each["scores"]["accuracy"]["estimate"]["mean"] for each in found["variants"]] == [0.3, 0.9]
    for heading, file in (("Let a model judge", "judge"), ("Ask a person", "person")):
        (shell.folder / f"{file}.yaml").write_text(text(PAGE, heading, "yaml"))
        typed = shell.run(text(PAGE, heading, "sh"), AIPARTNERUPFLOW_URL=open_server.url)
        assert "sensible: Version 1 and version 2 have the same score in all 10 cases." in typed
    assert typed.count("10 not scored") == 2  # the judge is of one opinion, so no person is asked
    shell.run(text(PAGE, "Rows from runs", "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    *_, row = open_server.rpc("datasets.get", {"name": "messages"})["rows"]
    assert (row["inputs"], row["tags"]) == ({"text": "Send me the invoice of March"}, ["test"])
    (run,) = open_server.rpc("runs.list", {"text": row["source"]["run_id"]})["runs"]
    assert run["flow"]["name"] == "label"
    open_server.rpc("flows.delete", {"name": "label"})
    open_server.rpc("datasets.delete", {"name": "messages"})
