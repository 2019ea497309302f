"""The table of executors, what plug-ins add to it, and the page that tells how to write one."""

import asyncio
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.exceptions import ImproperlyConfigured
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from tasks.executors import EXECUTORS, NEEDS, describe, disabled_executors, executor_ids, get_executor
from tasks.executors.admission import checked
from tasks.executors.plugins import plugins
from tasks.rules.exceptions import ExecutorNotFound, InvalidParams
from tasks.rules.extras import EXTRAS, how_to_install
from tests.tasks.executors.conftest import InstallModule

OFF = {
    "command_executor": "executors.command.allow: [/path/of/a/program]",
    "docker_executor": "executors.docker.images: [python:3.13-slim]",
    "send_email_executor": "email: {host: smtp.example.com, sender: apflow@example.com, allow: ['*@example.com']}",
    "ssh_executor": "executors.ssh: {hosts: {build: deploy@build.example.com}, keys: [/path/of/a/key], known_hosts: /path/of/a/file}",
}
"""What is off until the operator says more."""
ENABLED = EXECUTORS.keys() - OFF.keys()
pytestmark = [pytest.mark.usefixtures("registry"), pytest.mark.crews]  # it wants all executors

ROOT = Path(__file__).parents[3]
HOW_TO = ROOT / "docs/how-to/write-an-executor.md"

MINIMAL = """
    from aipartnerupflow.executors import Executor

    class Minimal(Executor):
        id = "{id}"
        name = "Minimal"
        description = "Does next to nothing."

        async def execute(self, inputs, context):
            return inputs
"""


def install_distribution(folder: Path, entry_points: str) -> None:
    """What `pip install` leaves of a package that declares entry points."""
    info = folder / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[aipartnerupflow.executors]\n{entry_points}\n")
    importlib.invalidate_caches()


def test_a_server_without_extras_describes_every_executor() -> None:
    """In a process where nothing can import what the extras install."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({[*EXTRAS.values(), "grpc", "google.protobuf", "langchain_core"]!r}))
import aipartnerupflow
aipartnerupflow.bootstrap()
import django
django.setup()
from tasks.executors import EXECUTORS
from django.utils.module_loading import import_string
print(sorted(import_string(path).id for path in EXECUTORS.values()))
"""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "apflow_site.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{sorted(EXECUTORS)}\n", done.stderr


@pytest.mark.parametrize("executor_id", sorted(EXECUTORS))
def test_every_built_in_executor_declares_itself_fully(executor_id: str) -> None:
    about = describe(executor_id)
    assert about["id"] == executor_id
    assert about["enabled"] is (executor_id in ENABLED)
    assert about["name"] and about["description"]
    for schema in (about["input_schema"], about["result_schema"]):
        Draft202012Validator.check_schema(schema)
    Draft202012Validator(about["input_schema"]).validate(about["example"])
    Draft202012Validator(about["result_schema"]).validate(about["example_result"])
    assert about["example_result"] is not None
    assert about["extra"] == NEEDS.get(executor_id)


@pytest.mark.parametrize(
    ("task", "place", "reason"),
    [
        ({"params": {"timout_seconds": 3}}, "params.timout_seconds", "did you mean 'timeout_seconds'?"),
        ({"params": {"retries": 3}}, "params.retries", "did you mean 'retry'?"),
        ({"params": {"rate_limit": 3}}, "params.rate_limit", "did you mean 'limits'?"),
        ({"params": {"colour": True}}, "params.colour", "unknown field; known are executor_id"),
        (
            {"params": {"timout_seconds": 3}, "name": "A group", "schemas": None},
            "params.timout_seconds",
            "did you mean",
        ),
        ({"params": {"modle": "x/y"}, "schemas": {"method": "llm_executor"}}, "params.modle", "did you mean 'model'?"),
        ({"params": {"works": {}}}, "params.works", "unknown field"),
    ],
)
def test_params_that_nothing_reads_are_refused_by_name(task: Json, place: str, reason: str) -> None:
    with pytest.raises(InvalidParams) as raised:
        checked({"name": "Odd", "schemas": {"method": "echo_executor"}} | task)
    [(where, why)] = raised.value.problems
    assert (where, reason in why) == (f"tasks[0].{place}", True), why


@pytest.mark.parametrize("task", [{"name": "x", "schemas": {"method": "step_executor"}}, {"name": "step_executor"}])
def test_no_request_may_name_what_runs_the_steps_of_workflows(task: Json) -> None:
    with pytest.raises(InvalidParams) as raised:
        checked([{"id": "top", "name": "Top"}, task | {"parent_id": "top", "inputs": {"function": "a:b"}}])
    [(where, why)] = raised.value.problems
    assert (where, "Name the workflow, such as workflow:research" in why) == ("tasks[1]", True), why
    assert "step_executor" not in executor_ids()


def test_a_place_that_names_no_task_is_refused_unless_it_is_meant_as_a_text() -> None:
    def problem_of(text: str, **fields: Any) -> str | None:
        task = {
            "name": "Use",
            "parent_id": "fetch-page",
            "schemas": {"method": "echo_executor"},
            "inputs": {"x": [text]},
        }
        try:
            checked([{"id": "fetch-page", "name": "Fetch"}, task | fields])
        except InvalidParams as error:
            [(where, why)] = error.problems
            assert where == "tasks[1].inputs.x[0]"
            return why
        return None

    assert "there is no 'nosuch'. Write the id of a dependency, or four" in str(problem_of("{{nosuch.text}}"))
    assert "there is no 'fetch-pge'. Did you mean 'fetch-page'?" in str(problem_of("See {{fetch-pge}}."))
    for text in ("{{{{nosuch.text}}", "{{name}}", "Dear {{user.name}},", "{{ x.y | upper }}", "{{run.inputs.x}}"):
        assert problem_of(text) is None, text
    assert problem_of("", inputs={"tasks": [{"id": "a", "inputs": {"x": "{{b.x}}", "y": "{{fetch-pge.y}}"}}]}) is None
    schema = {"properties": {"topic": {"type": "object"}}}
    named = {"schemas": {"method": "echo_executor", "input_schema": schema}}
    assert problem_of("{{topic.name}}", **named) is None


def test_params_of_the_predecessor_are_known_and_those_without_effect_give_a_warning() -> None:
    task: Json = {"name": "Hi", "schemas": {"method": "llm_executor"}, "inputs": {"prompt": "Hi"}}
    spec = checked(task | {"params": {"model": "demo/demo", "temperature": 1, "max_tokens": 5, "stream": True}})
    assert spec.warnings == tuple(
        f"Task 'Hi': params.{name} is ignored. llm_executor does not read it."
        for name in ("temperature", "max_tokens", "stream")
    )


def test_a_plug_in_that_declares_no_params_gets_any_with_a_warning_for_what_looks_misspelt(
    install_module: InstallModule,
) -> None:
    install_module("of_a_plugin", MINIMAL.format(id="open_executor"))
    task: Json = {"name": "Own", "schemas": {"method": "open_executor"}, "params": {"colour": "red", "retries": 3}}
    warning = "Task 'Own': params.retries is passed to open_executor. Did you mean 'retry'?"
    assert checked(task).warnings == (warning,)


def test_a_plug_in_that_declares_its_params_gets_no_others(install_module: InstallModule) -> None:
    declaring = MINIMAL.format(id="closed_executor").replace(
        "name =", 'param_names = frozenset({"color"})\n        name ='
    )
    install_module("of_a_plugin", declaring)
    task: Json = {"name": "Own", "schemas": {"method": "closed_executor"}}
    assert checked(task | {"params": {"color": "red"}}).warnings == ()
    with pytest.raises(InvalidParams, match=r"params\.colour: unknown field; did you mean 'color'"):
        checked(task | {"params": {"colour": "red"}})


@pytest.mark.parametrize("executor_id", sorted(EXECUTORS))
def test_inputs_may_also_hold_the_results_of_dependencies(executor_id: str) -> None:
    about = describe(executor_id)
    inputs = {**about["example"], "some-dependency": {"any": ["thing"]}}
    Draft202012Validator(about["input_schema"]).validate(inputs)


def test_there_is_one_instance_per_process() -> None:
    assert get_executor("echo_executor") is get_executor("echo_executor")


def test_listing_the_ids_imports_no_executor_and_no_http_client() -> None:
    code = (  # a process of its own, because this one has long imported them
        "import sys, django; django.setup(); from tasks.executors import executor_ids; ids = executor_ids();"
        "heavy = {'httpx', 'tasks.executors.http.rest', 'tasks.executors.echo'} & set(sys.modules);"
        "print(len(ids), sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == f"{len(ENABLED)} []"


@pytest.mark.parametrize(
    ("executor_id", "close_matches"),
    [
        ("echo_executer", ["echo_executor"]),
        ("rest", []),
        ("", []),
        ("os.system", []),
        ("tasks.executors.echo.Echo", []),
    ],
)
def test_an_unknown_id_is_refused_with_the_closest_ones(executor_id: str, close_matches: list[str]) -> None:
    with pytest.raises(ExecutorNotFound) as caught:
        get_executor(executor_id)
    assert caught.value.data["executor_id"] == executor_id
    assert caught.value.data["close_matches"][: len(close_matches)] == close_matches
    with pytest.raises(ExecutorNotFound):
        describe(executor_id)


def test_an_executor_in_a_named_module_is_registered(install_module: InstallModule) -> None:
    install_module("my_executors", MINIMAL.format(id="minimal_executor"))
    assert executor_ids() == {*ENABLED, "minimal_executor"}
    assert get_executor("minimal_executor").name == "Minimal"
    assert describe("minimal_executor")["input_schema"] == {"type": "object"}


def test_imported_executors_and_unfinished_base_classes_are_not_registered(install_module: InstallModule) -> None:
    install_module(
        "my_executors",
        """
        from aipartnerupflow.executors import Executor
        from tasks.executors.echo import Echo

        class Base(Executor):
            tags = ("mine",)

        class Mine(Base):
            id = "mine_executor"
            name = "Mine"
            description = "Builds on a base class."

            async def execute(self, inputs, context):
                return None
        """,
    )
    assert executor_ids() == {*ENABLED, "mine_executor"}
    assert describe("mine_executor")["tags"] == ["mine"]


def test_an_executor_of_an_entry_point_is_registered(
    install_module: InstallModule, settings: Settings, tmp_path: Path
) -> None:
    install_module("my_plugin", MINIMAL.format(id="plugged_executor"))
    settings.APFLOW_EXECUTOR_MODULES = ()
    install_distribution(tmp_path, "plugged_executor = my_plugin:Minimal")
    assert executor_ids() == {*ENABLED, "plugged_executor"}
    assert type(get_executor("plugged_executor")).__module__ == "my_plugin"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package", "'broken' cannot be imported: ModuleNotFoundError: No module named 'no_such_pack"),
        ("def :", "'broken' cannot be imported: SyntaxError"),
        ("1 / 0", "'broken' cannot be imported: ZeroDivisionError"),
        (MINIMAL.format(id=""), "broken.Minimal has no `id`"),
        (MINIMAL.format(id="x").replace('id = "x"', ""), "broken.Minimal has no `id`"),
        (MINIMAL.format(id="x").replace('name = "Minimal"', ""), "broken.Minimal has no `name`"),
        (MINIMAL.format(id="x").replace("description =", "other ="), "broken.Minimal has no `description`"),
        (MINIMAL.format(id="x").replace("async def", "def"), "broken.Minimal: `execute` is not async"),
        (MINIMAL.format(id="echo_executor"), "broken.Minimal: the id 'echo_executor' belongs to a built-in executor"),
        (
            MINIMAL.format(id="x").replace("name =", "input_schema = {'type': 'objekt'}; name ="),
            'broken.Minimal.input_schema is not a valid JSON Schema: type: "objekt" is not valid',
        ),
        (
            MINIMAL.format(id="x").replace("name =", "result_schema = {'required': 'a'}; name ="),
            "broken.Minimal.result_schema is not a valid JSON Schema: required: ",
        ),
        (MINIMAL.format(id="x").replace("name =", "extra = 'nope'; name ="), "broken.Minimal: unknown extra 'nope'"),
        (MINIMAL.format(id="x").replace("name =", "pool = 'moon'; name ="), "broken.Minimal: unknown pool 'moon'"),
    ],
)
def test_a_wrong_plug_in_stops_the_start_by_name(source: str, message: str, install_module: InstallModule) -> None:
    install_module("broken", source)
    with pytest.raises(ImproperlyConfigured) as caught:
        executor_ids()
    assert message in str(caught.value)


def test_a_pool_for_an_unknown_executor_stops_the_start(registry: None, settings: Settings) -> None:
    pools = settings.APFLOW.pools.model_copy(update={"executors": {"python_executr": "thread"}})
    settings.APFLOW = settings.APFLOW.model_copy(update={"pools": pools})
    with pytest.raises(
        ImproperlyConfigured, match=r"pools\.executors: there is no executor 'python_executr'\. Did you mean"
    ):
        executor_ids()


def test_a_limit_of_an_unknown_executor_stops_the_start(registry: None, settings: Settings) -> None:
    shared = {"gpt": {"match": {"executor": "llm_executr"}, "at_once": 2}}
    limits = settings.APFLOW.limits.model_copy(update={"shared": shared})
    settings.APFLOW = settings.APFLOW.model_copy(update={"limits": limits})
    with pytest.raises(
        ImproperlyConfigured, match=r"limits\.shared: there is no executor 'llm_executr'\. Did you mean 'llm"
    ):
        executor_ids()


def test_two_plug_ins_with_one_id_are_both_named(install_module: InstallModule) -> None:
    install_module("first", MINIMAL.format(id="same_executor"))
    install_module("second", MINIMAL.format(id="same_executor"))
    with pytest.raises(ImproperlyConfigured, match=r"'same_executor': first\.Minimal and second\.Minimal"):
        executor_ids()


def test_two_functions_with_one_name_are_both_named(install_module: InstallModule) -> None:
    source = """
        from aipartnerupflow.executors import python_function

        @python_function
        def add(a, b):
            return a + b
    """
    install_module("first", source)
    install_module("second", source)
    with pytest.raises(ImproperlyConfigured, match=r"function 'add': first\.add and second\.add"):
        executor_ids()


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("other_id = my_plugin:Minimal", "the class has id 'plugged_executor'"),
        ("plugged_executor = my_plugin:Missing", "cannot be loaded: AttributeError"),
        ("plugged_executor = no_such_module:Minimal", "cannot be loaded: ModuleNotFoundError"),
        ("plugged_executor = my_plugin:Executor", "is not an Executor class"),
        ("plugged_executor = os:getcwd", "is not an Executor class"),
    ],
)
def test_a_wrong_entry_point_stops_the_start_by_name(
    entry_point: str, message: str, install_module: InstallModule, settings: Settings, tmp_path: Path
) -> None:
    install_module("my_plugin", MINIMAL.format(id="plugged_executor"))
    settings.APFLOW_EXECUTOR_MODULES = ()
    install_distribution(tmp_path, entry_point)
    with pytest.raises(ImproperlyConfigured) as caught:
        executor_ids()
    assert f"Entry point '{entry_point}' in group aipartnerupflow.executors" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "executor_id", "packages"),
    [
        ("llm", "llm_executor", "'litellm<2,>=1.110'"),
        ("crewai", "crewai_executor", "'crewai<2,>=1.15' 'litellm<2,>=1.110'"),
    ],
)
def test_an_executor_whose_extra_is_missing_says_how_to_enable_it(
    install_module: InstallModule, monkeypatch: pytest.MonkeyPatch, extra: str, executor_id: str, packages: str
) -> None:
    monkeypatch.setattr("tasks.rules.extras.EXTRAS", {**EXTRAS, extra: "a_module_that_is_not_installed"})
    install_module("my_llm", MINIMAL.format(id="my_llm_executor").replace("name =", f"extra = '{extra}'; name ="))
    install_line = f"pip install {packages}, or in a clone of the repository: make serve SET=all"
    assert "my_llm_executor" not in executor_ids()
    ours = {name: install_line for name, each in NEEDS.items() if each == extra}
    assert executor_id in ours
    assert disabled_executors() == {**OFF, **ours, "my_llm_executor": install_line}
    assert describe("my_llm_executor")["enabled"] is False
    with pytest.raises(ExecutorNotFound) as caught:
        get_executor("my_llm_executor")
    assert caught.value.data["enable_with"] == install_line


def test_crews_on_a_python_without_crewai_say_which_python_has_it() -> None:
    install_line = "pip install 'crewai<2,>=1.15' 'litellm<2,>=1.110', or in a clone of the repository: "
    assert how_to_install("crewai", python=(3, 13)) == f"{install_line}make serve SET=all"
    assert how_to_install("crewai", python=(3, 14)) == (
        "Python 3.13 or older, because crewai has no release for Python 3.14. With that Python: "
        f"{install_line}rm -r .venv && make serve SET=all"
    )
    assert how_to_install("llm", python=(3, 14)) == how_to_install("llm", python=(3, 13))


def test_an_executor_whose_extra_is_installed_is_enabled(
    install_module: InstallModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.rules.extras.EXTRAS", {**EXTRAS, "llm": "json"})
    install_module("my_llm", MINIMAL.format(id="my_llm_executor").replace("name =", "extra = 'llm'; name ="))
    assert disabled_executors() == OFF
    assert get_executor("my_llm_executor").extra == "llm"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_on_writing_an_executor_shows_one_in_ten_lines() -> None:
    assert len([line for line in code_blocks("python")[0].splitlines() if line.strip()]) <= 10


async def test_the_page_on_writing_an_executor_is_true(
    install_module: InstallModule,
    settings: Settings,
    context: Context,
    reports: list[tuple[float, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    word_count, shout, line_count, rate, translate, headline, test = code_blocks("python")
    install_module("word_count", word_count)
    install_module("shout", shout)
    install_module("line_count", line_count)
    install_module("rate", rate)
    install_module("translate", translate)
    install_module("headline", headline)
    modules = yaml.safe_load(code_blocks("yaml")[0])["executors"]["modules"]
    assert modules == ["word_count"]

    assert executor_ids() == {
        *ENABLED,
        "word_count_executor",
        "line_count_executor",
        "rate_executor",
        "translate_executor",
        "headline_executor",
    }
    inputs = {"text": "to be or not to be"}
    assert await get_executor("word_count_executor").execute(inputs, context) == {"words": 6}
    inputs_of_shout = {"function": "shout", "arguments": {"text": "hello", "times": 2}}
    assert await get_executor("python_executor").execute(inputs_of_shout, context) == "HELLO!!"

    monkeypatch.chdir(tmp_path)
    counter = get_executor("line_count_executor")
    with pytest.raises(ExecutorError, match=r"january.txt is not there yet"):
        await counter.execute(counter.example, context)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/january.txt").write_text("a\nb\n")
    assert await counter.execute(counter.example, context) == {"january.txt": 2}
    assert reports == [(1.0, "january.txt counted")]

    scope: dict[str, object] = {}
    exec(test, scope)
    for name in ("test_words_are_counted", "test_the_rate_is_looked_up"):
        await asyncio.to_thread(scope[name])  # type: ignore[arg-type]  # it has a loop of its own


def test_the_entry_point_of_the_page_is_the_one_that_is_read(
    install_module: InstallModule, settings: Settings, tmp_path: Path
) -> None:
    install_module("word_count", code_blocks("python")[0])
    settings.APFLOW_EXECUTOR_MODULES = ()
    groups = tomllib.loads(code_blocks("toml")[0])["project"]["entry-points"]
    entry_points = "\n".join(f"{name} = {value}" for name, value in groups["aipartnerupflow.executors"].items())
    install_distribution(tmp_path, entry_points)
    executor: Executor = get_executor("word_count_executor")
    assert inspect.iscoroutinefunction(executor.execute)


WORKFLOWS = '''
    from dataclasses import dataclass, field
    from datetime import date

    import msgspec
    from pydantic import BaseModel, Field

    from aipartnerupflow.workflows import step, workflow

    class Options(BaseModel):
        depth: int = Field(default=3, ge=1)

    class Source(msgspec.Struct):
        url: str

    @dataclass
    class Report:
        """A report."""

        text: str
        sources: list[Source] = field(default_factory=list)

    @step
    def fetch(url: str) -> str:
        return url

    @workflow
    async def research(topic: str, options: Options, since: date | None = None, *, sources: list[Source] = []) -> Report:
        """Research a topic.

        In depth.
        """
        # Remarks do not count.
        return Report(text=await fetch(topic))

    again = research
'''


def test_a_workflow_is_an_executor_with_the_schemas_of_its_type_hints(install_module: InstallModule) -> None:
    install_module("my_flows", WORKFLOWS)
    about = describe("workflow:research")
    assert {name: about[name] for name in ("name", "description", "tags", "enabled")} == {
        "name": "research",
        "description": "Research a topic.",
        "tags": ["code", "workflow"],
        "enabled": True,
    }
    schema = about["input_schema"]
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["topic", "options"]
    assert schema["properties"]["topic"] == {"type": "string"}
    assert schema["properties"]["since"]["default"] is None
    assert schema["properties"]["options"]["properties"]["depth"]["minimum"] == 1
    assert schema["$defs"]["Source"]["required"] == ["url"]
    assert about["result_schema"]["$ref"] == "#/$defs/Report"
    assert set(about["result_schema"]["$defs"]) == {"Report", "Source"}


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"options": {}}, '"topic" is a required property'),
        ({"topic": 7, "options": {}}, "topic: the value is not of type"),
        ({"topic": "x", "options": {"depth": 0}}, "options.depth: "),
        ({"topic": "x", "options": {}, "sources": [{"uri": "a"}]}, 'sources[0]: "url" is a required property'),
        ({"topic": "x", "options": {}, "sorces": []}, "research() has no such parameter; did you mean 'sources'?"),
        ({"topic": "x", "options": {}, "since": "soon"}, "The argument 'since' does not fit research("),
    ],
)
def test_inputs_that_a_workflow_does_not_take_are_refused_by_name(
    inputs: Json, reason: str, install_module: InstallModule
) -> None:
    install_module("my_flows", WORKFLOWS)
    with pytest.raises(InvalidParams) as raised:
        checked({"name": "Odd", "schemas": {"method": "workflow:research"}, "inputs": inputs})
    [(where, why)] = raised.value.problems
    assert where.startswith("tasks[0].inputs") and reason in why, (where, why)


def test_inputs_that_places_complete_are_stored(install_module: InstallModule) -> None:
    install_module("my_flows", WORKFLOWS)
    given = {"topic": "About {{river}}", "river": "the Elbe", "options": {"depth": 1}, "since": "2026-01-31"}
    checked({"name": "Good", "schemas": {"method": "workflow:research"}, "inputs": given})


def test_a_step_that_a_module_imports_and_an_entry_point_that_is_a_module_are_registered(
    install_module: InstallModule, settings: Settings, tmp_path: Path
) -> None:
    install_module("my_steps", "from aipartnerupflow.workflows import step\n\n@step\ndef fetch() -> None: ...")
    install_module(
        "my_flows", "from my_steps import fetch\n" + inspect.cleandoc(WORKFLOWS.replace("fetch(url", "get(url"))
    )
    settings.APFLOW_EXECUTOR_MODULES = ()
    install_distribution(tmp_path, "my_flows = my_flows")
    assert "workflow:research" in executor_ids()
    assert set(plugins().steps) == {"my_steps:fetch", "my_flows:get"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("-> Report:", "-> type:", r"my_flows\.py:26: the result of research\(\) has no JSON form"),
        ("url: str) ->", "url: type) ->", r"my_flows\.py:22: the parameter 'url' of fetch\(\) has no JSON form"),
        ("topic: str,", 'topic: "Strng",', r"my_flows\.py:26: a type hint of research\(\) is not known at run time"),
        ("# Remarks", "import time; time.time()  # Remarks", r"my_flows\.py:\d+: research\(\) calls time\.time\(\)"),
        (
            "@workflow",
            "@workflow\ndef plain() -> int:\n    return 1\n\n@workflow",
            r"my_flows\.py:26: plain\(\) is a plain function",
        ),
    ],
)
def test_a_fault_of_a_workflow_stops_the_start_with_file_and_line(
    before: str, after: str, message: str, install_module: InstallModule
) -> None:
    source = inspect.cleandoc(WORKFLOWS)
    assert before in source
    install_module("my_flows", source.replace(before, after, 1))
    with pytest.raises(ImproperlyConfigured, match=message):
        executor_ids()


def test_two_workflows_with_one_name_are_both_named_with_their_places(install_module: InstallModule) -> None:
    install_module("my_flows", WORKFLOWS)
    install_module("other_flows", WORKFLOWS)
    both = r"'workflow:research': my_flows\.research \(\S+my_flows\.py:27\) and other_flows\.research \(\S+:27\)"
    with pytest.raises(ImproperlyConfigured, match=both):
        executor_ids()


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ("# Remarks do not count.", "# Others.\n\n", True),
        ("In depth.", "Superficially.", True),
        ("return url", "return url + url", True),
        ("fetch(url: str)", "fetch(url: bytes)", False),
        ("text=await fetch(topic)", "text=await fetch(topic + topic)", False),
    ],
)
def test_the_version_of_a_workflow_is_that_of_the_code_which_a_replay_runs(
    before: str, after: str, is_same: bool, install_module: InstallModule
) -> None:
    def version_of(name: str, source: str) -> str:
        install_module(name, source)
        return str(importlib.import_module(name).research.version)

    source = inspect.cleandoc(WORKFLOWS)
    first, other = version_of("my_flows", source), version_of("changed", source.replace(before, after, 1))
    assert (first == other) is is_same
    assert version_of("declared", source.replace("@workflow\n", '@workflow(version="7")\n')) == "7"
