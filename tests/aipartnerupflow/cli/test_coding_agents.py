"""`flows validate`, `skill install`, the schemas of files, and docs/how-to/coding-agents.md."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from a2a.methods.flows import SaveFlow
from tasks.rules.field_rules import TASK_FIELDS
from tasks.rules.task_schedules import WRITTEN
from tests.aipartnerupflow.conftest import Said
from tests.documents import texts
from tests.servers import ROOT, Server
from tests.shell import Shell, new_shell

Cli = Callable[..., Said]
PAGE: Final = "docs/how-to/coding-agents.md"
SKILL: Final = ROOT / "aipartnerupflow/skill/SKILL.md"
ECHO: Final = "schemas: {method: echo_executor}"


def schema(name: str) -> Any:
    return json.loads((ROOT / "aipartnerupflow/schemas" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "field.yaml",
            f"name: bad name\ntasks:\n  - {{id: a, name: A, {ECHO}}}\n  - id: b\n    name: B\n    parent_id: a\n    prio: 3\n",
            [(1, "name"), (7, "tasks[1].prio")],
        ),
        (
            "value.yaml",
            f"name: A\n{ECHO}\nparams:\n  retry:\n    max_attempts: -1\n",
            [(5, "tasks[0].params.retry.max_attempts")],
        ),
        (
            "cycle.json",
            '[\n\t{"id": "a", "name": "A"},\n\t{"id": "b", "name": "B",\n\t "parent_id": "a", "dependencies": ["c"]}\n]',
            [(3, "tasks[1]")],
        ),
        ("missing.yaml", f"tasks:\n  - name: A\n    {ECHO}\n  - parent_id: A\n", [(4, "tasks[1].name")]),
        (
            "inputs.yaml",
            f'inputs_schema: {{type: object, properties: {{a: {{}}}}}}\ntasks:\n  name: A\n  {ECHO}\n  inputs:\n    x: "{{{{run.inputs.b}}}}"\n',
            [(6, "tasks[0].inputs.x")],
        ),
        (
            "schema.yaml",
            f"name: A\ninputs_schema:\n  type: nothing\ntasks:\n  name: A\n  {ECHO}\n",
            [(2, "inputs_schema")],
        ),
        ("good.yaml", f"name: A\ntasks:\n  name: A\n  {ECHO}\n", []),
        ("good.json", '{"$schema": "x", "name": "A", "schemas": {"method": "echo_executor"}}', []),
    ],
)
def test_a_file_is_checked_with_lines(shell: Shell, name: str, content: str, expected: list[tuple[int, str]]) -> None:
    (shell.folder / name).write_text(content)
    code = 1 if expected else 0
    (report,) = json.loads(shell.run(f"aipartnerupflow flows validate --json {name}", code=code))
    assert [(each["line"], each["field"]) for each in report["errors"]] == expected, report
    said = shell.run(f"aipartnerupflow flows validate {name}", code=code)
    assert [f"{name}:{line}: {field}: " in said for line, field in expected] == [True] * len(expected)
    assert (f"{name}: valid, 1 task" in said) is not bool(expected)
    assert not list(shell.folder.glob(".data*")) and "data" not in [file.name for file in shell.folder.iterdir()]


def test_a_file_that_cannot_be_read_is_no_answer(shell: Shell) -> None:
    (shell.folder / "broken.yaml").write_text("id: x\n  y: [\n")
    assert "line 2" in shell.run("aipartnerupflow flows validate broken.yaml", code=2)
    assert "Cannot read nowhere.yaml" in shell.run("aipartnerupflow flows validate nowhere.yaml", code=2)
    (shell.folder / "more.yaml").write_text("tasks: []\nowner: x\n")
    assert "unknown field 'owner'" in shell.run("aipartnerupflow flows validate more.yaml", code=2)


def test_the_schemas_know_every_field_and_no_other() -> None:
    for name in ("flow", "tree"):
        found = schema(name)
        jsonschema.Draft202012Validator.check_schema(found)
        task = found["$defs"]["NewTask"]
        assert task["properties"].keys() >= {*TASK_FIELDS, *WRITTEN, "$schema"}
        assert task["additionalProperties"] is False
    known = {*SaveFlow.__struct_fields__, "$schema"} - {"task_id"}
    assert schema("flow")["then"]["properties"].keys() == known


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").rglob("*.*")), ids=lambda file: file.name)
def test_the_examples_satisfy_the_schemas(file: Path) -> None:
    if file.suffix not in (".json", ".yaml") or file.name.startswith("package"):  # npm's are none of ours
        return
    document = yaml.safe_load(file.read_text())
    kind = "flow" if isinstance(document, dict) and "tasks" in document else "tree"
    jsonschema.validate(document, schema(kind))
    wrong = document["tasks"][0] if kind == "flow" else document[0] if isinstance(document, list) else document
    wrong["prio"] = 3
    with pytest.raises(jsonschema.ValidationError, match="prio"):
        jsonschema.validate(document, schema(kind))


def test_the_server_publishes_the_schemas(server: Server) -> None:
    for name in ("flow", "tree"):
        reply = server.http.get(f"/schemas/{name}.json")
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/schema+json")
        assert reply.json() == schema(name)
        again = server.http.get(f"/schemas/{name}.json", headers={"If-None-Match": reply.headers["ETag"]})
        assert again.status_code == 304
    assert server.http.get("/schemas/other.json").status_code == 404


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell) -> None:
    shell.run(texts(PAGE, "Install the skill", "sh")[0])
    assert (shell.folder / ".agents/skills/aipartnerupflow/SKILL.md").read_text() == SKILL.read_text()
    assert "greet.yaml: valid, 1 task" in shell.run(texts(PAGE, "Check files without a server", "sh")[0])
    for language in ("yaml", "json"):
        (shell.folder / f"shown.{language}").write_text(texts(PAGE, "Let the editor check them", language)[0])
        assert "valid, 1 task" in shell.run(f"aipartnerupflow flows validate shown.{language}")


def test_the_examples_of_the_skill_work(shell: Shell, cli: Cli, tmp_path: Path) -> None:
    text = SKILL.read_text()
    named = re.findall(r"^Save as `(\S+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in named] == ["greet.yaml", "approval.py", "shout.py"]
    for name, content in named:
        (tmp_path / name).write_text(content)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    tests = [block for block in blocks if "def test_" in block]
    for number, test in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(test)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(tests)} passed" in done.stdout, done.stdout
    flow = (tmp_path / "greet.yaml").read_text().replace("name: greet", "name: cli-skill")
    (tmp_path / "flow.yaml").write_text(flow)
    assert "valid, 4 tasks" in shell.run(f"aipartnerupflow flows validate {tmp_path}/greet.yaml")
    cli("flows", "save", str(tmp_path / "flow.yaml"))
    reply = cli("run", "flow:cli-skill", "--input", "who=Ada", "--json").json
    assert reply["status"] == "completed" and "Hello Ada" in json.dumps(reply["task"]["result"])
    cli("flows", "delete", "cli-skill")
