"""What must stay true of the whole: names, documents, requirements and the image agree with the code."""

import inspect
import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from django.apps import apps

from a2a.methods import METHODS, SYSTEM_METHODS
from aipartnerupflow import __version__

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
NAMES_OF_THE_A2A_SDK = frozenset(
    {"types", "client", "server", "utils", "auth", "compat", "extensions", "helpers", "contrib", "_base"}
)
GUIDE_CMD = 'CMD ["aipartnerupflow-server", "--host", "0.0.0.0", "--port", "8000"]'
GUIDE_UNIT = """
[Unit]
Description=aipartnerupflow API Server
After=network.target

[Service]
Type=simple
User=apflow
WorkingDirectory=/opt/aipartnerupflow
ExecStart=/usr/local/bin/aipartnerupflow-server --host 0.0.0.0 --port 8000
Restart=always

[Install]
WantedBy=multi-user.target
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines(name: str) -> list[str]:
    """The lines of a file that say something, without comments."""
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def copied_into_the_image() -> list[str]:
    copies = [line.split()[1:-1] for line in lines("Dockerfile") if line.startswith("COPY ") and "--from" not in line]
    return [source for sources in copies for source in sources]


def test_no_module_of_ours_hides_one_of_the_a2a_sdk() -> None:
    assert not {path.stem for path in (ROOT / "a2a").iterdir()} & NAMES_OF_THE_A2A_SDK


def test_the_server_has_one_alias_for_an_object_of_json() -> None:
    """What plug-ins and clients import stands on its own, so each of these packages has one, too."""
    public = {f"aipartnerupflow/{name}" for name in ("a2a/__init__.py", "client/types.py", "executors/base.py")}
    folders = ("a2a", "accounts", "aipartnerupflow", "apflow_site", "llmkeys", "tasks")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {relative(path) for path in modules if re.search(r"^Json\b.*= dict", path.read_text(), re.MULTILINE)}
    assert found == {"tasks/rules/strict_json.py", *public}


def test_every_model_names_its_app() -> None:
    """A project with `aipartnerupflow.django` imports the models without their apps."""
    of_services = [
        each for label in ("accounts", "llmkeys", "tasks") for each in apps.get_app_config(label).get_models()
    ]
    assert [each.__name__ for each in of_services if "app_label = " not in inspect.getsource(each)] == []


@pytest.mark.parametrize("method", [*METHODS, *SYSTEM_METHODS])
def test_every_method_stands_in_the_reference(method: str) -> None:
    assert f"\n| `{method}` |" in (ROOT / "docs/reference/methods.md").read_text()


def test_the_reference_names_no_method_that_is_not_there() -> None:
    named = re.findall(r"^\| `([a-z_.-]+)` \|", (ROOT / "docs/reference/methods.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted([*METHODS, *SYSTEM_METHODS])


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 122


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_changelog_has_the_version() -> None:
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=relative)
def test_a_lock_names_versions_and_hashes_and_no_address(lock: Path) -> None:
    entry = r"[a-z0-9][a-z0-9._-]*==[^ \n]+( ; [^\n\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+"
    assert re.fullmatch(f"({entry})+", lock.read_text())
    assert "://" not in lock.read_text()


def test_the_forge_tests_every_python_that_the_package_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = "Programming Language :: Python :: "
    supported = [each.removeprefix(python) for each in project["classifiers"] if each.startswith(python)]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == supported


def test_the_development_container_is_the_one_of_the_forge() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    images = [
        job["container"]["image"].replace("${{ matrix.python }}", each) for each in job["strategy"]["matrix"]["python"]
    ]
    assert container["image"] in images
    assert " ".join(container["runArgs"]) == job["container"]["options"]
    assert f"\n{container['postCreateCommand'].removeprefix('make ')}:\n" in (ROOT / "Makefile").read_text()


def test_the_image_copies_only_what_is_there_and_let_in() -> None:
    let_in = {line[1:] for line in lines(".dockerignore") if line.startswith("!")}
    sources = copied_into_the_image()
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert let_in == set(sources)


def test_the_image_copies_all_that_the_wheel_is_made_of() -> None:
    only_include = re.search(r"^only-include = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert only_include
    packages = [name for name in re.findall('"(.+?)"', only_include[1]) if any((ROOT / name).glob("*.*"))]
    assert set(packages) <= set(copied_into_the_image())


def test_the_image_starts_what_the_guide_starts() -> None:
    assert lines("Dockerfile")[-1] == GUIDE_CMD


def test_the_unit_is_the_guides_but_for_this_machine_only_and_hardened() -> None:
    unit, guide = lines("deploy/aipartnerupflow.service"), [line for line in GUIDE_UNIT.splitlines() if line]
    ours = [line.replace("0.0.0.0", "127.0.0.1") for line in guide]
    assert [line for line in unit if line in ours] == ours
    assert {"EnvironmentFile=/etc/aipartnerupflow.env", "Environment=AIPARTNERUPFLOW_AUTH_REQUIRED=true"} <= {*unit}
    assert not [line for line in unit if "0.0.0.0" in line]


def test_each_seeded_bug_has_its_place() -> None:
    """They are tried by hand only: whoever changes the line moves the bug along."""
    bugs = runpy.run_path(str(ROOT / "scripts" / "seeded_bugs.py"))["all_bugs"]()
    assert [bug.what for bug in bugs if (ROOT / bug.file).read_text().count(bug.right) != 1] == []
