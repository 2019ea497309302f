"""docs/how-to/improve-answers.md: fifty rows from runs, two prompts, a judge, a person for the doubtful ones, a label that moves, and CI."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from xml.etree import ElementTree as Xml

import pytest

from tests.documents import text, texts
from tests.llm_formats import Says
from tests.llm_server import Asked
from tests.llm_site import LlmSite, running_llm_site
from tests.servers import until
from tests.shell import new_shell

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
PAGE: Final = "docs/how-to/improve-answers.md"
IN_USE, ROWS, BETTER = "The flow that is in use", "Rows from last week's runs", "A second prompt"
JUDGED, MOVED, CI = "A judge, and a person for the doubtful answers", "Move the label", "Stop CI below 0.9"
INFORMED, VAGUE = "It arrives within five days.", "Thank you for asking."
DOUBTFUL: Final = {f"{about} order {order}?" for about in ("Where is my", "How do I return") for order in (10, 20)}


def said(asked: Asked) -> Says:
    """The model knows what its prompt says. As a judge it is in doubt about some questions."""
    system, prompt = (str(message["content"]) for message in asked.body["messages"])
    if "You judge" not in system:
        return Says(text=INFORMED if "five days" in system else VAGUE)
    doubts = any(question in prompt for question in DOUBTFUL)
    score = 0.5 if doubts else 1 if INFORMED in prompt else 0.2
    return Says(text=json.dumps({"reason": "It says so.", "score": score}))


def answer_all(site: LlmSite, count: int) -> None:
    """A person would send what informs."""
    answered = set[str]()

    def done() -> bool:
        for question in site.server.rpc("questions.list", {})["questions"]:
            if question["task_id"] not in answered:
                shown = re.split("Answer [AB]:", question["text"])[1:]
                answer = {
                    f"Answer {name}": "yes" if INFORMED in part else "no"
                    for name, part in zip("AB", shown, strict=True)
                }
                site.server.rpc("tasks.answer", {"task_id": question["task_id"], "answer": answer})
                answered.add(question["task_id"])
        return len(answered) == count

    until(done, seconds=120, what="all questions")


def test_a_better_prompt_is_found_on_real_questions_and_put_into_use(tmp_path_factory: pytest.TempPathFactory) -> None:
    shell = new_shell(tmp_path_factory)
    judge, person = texts(PAGE, JUDGED, "yaml")
    files = {"support.yaml": text(PAGE, IN_USE, "yaml"), "judge.yaml": judge, "person.yaml": person}
    for name, content in files.items():
        (shell.folder / name).write_text(content)
    with running_llm_site({"OPENAI_API_KEY": "sk-of-the-server-0123456789"}) as site, ThreadPoolExecutor(1) as typing:
        site.llm.by = said
        shell.environment["AIPARTNERUPFLOW_URL"] = site.server.url
        for script in texts(PAGE, IN_USE, "sh"):
            shell.run(script)
        added = shell.run(text(PAGE, ROWS, "sh"))
        assert len(site.server.rpc("datasets.get", {"name": "questions"})["rows"]) == 50, added
        shell.run(text(PAGE, BETTER, "sh"))
        typed = typing.submit(shell.run, text(PAGE, JUDGED, "sh"))
        answer_all(site, len(DOUBTFUL))
        verdict = re.compile(r"helpful: Version 2 is better by 0\.7\d \(0\.\d\d to 0\.\d\d\)\.")
        assert verdict.search(text(PAGE, JUDGED, "text"))
        assert verdict.search(typed.result(120)), typed.result()
        (experiment,) = site.server.rpc("evals.list", {})["experiments"]
        found = site.server.rpc("evals.get", {"experiment_id": experiment["id"]})
        means = [each["scores"]["helpful"]["estimate"]["mean"] for each in found["variants"]]
        assert means == pytest.approx([0.224, 0.96])
        sendable = [each["scores"]["sendable"] for each in found["variants"]]
        assert [(each["scored"], each["estimate"]["mean"]) for each in sendable] == [(4, 0), (4, 1)]
        moved = shell.run(text(PAGE, MOVED, "sh"))
        assert INFORMED in moved, moved
        shell.run(text(PAGE, CI, "sh"))
        assert Xml.parse(shell.folder / "junit.xml").getroot()[0].get("tests") == "50"
        worse = text(PAGE, CI, "sh").replace("--version 2", "--version 1")
        assert "0.224" in shell.run(worse, code=1)
        refused = shell.run('aipartnerupflow flows label support production --version 1 --reason "Back"', code=2)
        assert "0.9" in refused, refused
        shell.run('aipartnerupflow flows undo-label support production --reason "Back"')
        assert VAGUE in shell.run(text(PAGE, MOVED, "sh").splitlines()[-1])
