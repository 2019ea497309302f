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
    (asked,) = [json.loads(text(PAGE, "Over the interfaces", "json"))]
    reply = open_server.http.post("/tasks", json=asked).json()["result"]
    assert reply["status"] == "completed"
    found = open_server.rpc("evals.get", {"experiment_id": reply["task_id"]})
    assert [each["scores"]["accuracy"]["estimate"]["mean"] for each in found["variants"]] == [0.3, 0.9]
    open_server.rpc("flows.delete", {"name": "label"})
    open_server.rpc("datasets.delete", {"name": "messages"})
