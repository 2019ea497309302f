"""The page for those who bring a crew or a graph, followed word by word in an empty folder."""

import json

import pytest

from tests.documents import text, texts
from tests.llm_formats import Says
from tests.llm_server import llm_server
from tests.servers import ROOT, until
from tests.shell import new_shell

pytestmark = pytest.mark.nightly
PAGE = "docs/how-to/bring-your-code.md"
STEPS = "In ten minutes"


def test_a_crew_runs_in_ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> None:
    shell = new_shell(tmp_path_factory)
    serve, run = texts(PAGE, STEPS, "sh")
    files = {
        "crew.py": text(PAGE, "A crew", "python"),
        "graph.py": text(PAGE, "A LangGraph graph", "python"),
        "config.yaml": text(PAGE, STEPS, "yaml"),
        "report.json": text(PAGE, STEPS, "json"),
    }
    for name, content in files.items():
        (shell.folder / name).write_text(content)
    with llm_server() as llm:
        llm.will(Says(text="Rivers are long."))
        with shell.server(serve, is_forked=False, PYTHONPATH=str(ROOT), OPENAI_API_BASE=llm.openai_base) as server:
            shown = shell.run(run, AIPARTNERUPFLOW_URL=server.url)
            assert json.loads(shown.splitlines()[-1])["result"]["result"] == "Rivers are long."
            assert llm.asked[0].key == "sk-your-openai-key"
            (root,) = [each for each in server.rpc("tasks.list", {"root_only": True}) if each["name"] == "Report"]
            (call,) = server.rpc("tasks.detail", {"task_id": root["id"]})["model_calls"]
            assert (call["agent"], call["crew_task"]) == ("rivers Reporter", "reporting")
            server.rpc("tasks.execute", {"tasks": json.loads(text(PAGE, "A LangGraph graph", "json"))})

            def asked() -> list[str]:
                return [each["text"] for each in server.rpc("questions.list", {})["questions"]]

            until(lambda: "Order tea?" in asked(), seconds=60, what="the question of the graph")
