"""What a release consists of: `make release-check`. Nightly, because it installs the server once for each version of Python."""

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from aipartnerupflow import __version__
from tests.curl import curl
from tests.documents import texts
from tests.servers import ROOT
from tests.wheels import RUNTIME, environment, serving

pytestmark = pytest.mark.nightly

UV: Final = (sys.executable, "-m", "uv", "--quiet")
TOOLS: Final = (*UV, "run", "--no-project", "--with-requirements", str(ROOT / "requirements/release.txt"))
PROJECTS: Final = {"aipartnerupflow": ROOT, "aipartnerupflow-client": ROOT / "clients/python"}
VERSIONS: Final = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())

FIRST_REQUEST: Final = next(text for text in texts("README.md", "The same over HTTP", "sh") if "task1" in text)


def interpreter(version: str) -> str | None:
    """The path of this version of Python on this machine. Downloads none."""
    find = [sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", "--no-project", version]
    return subprocess.run(find, capture_output=True, text=True).stdout.strip() or None


@cache
def found() -> dict[str, str]:
    """The versions of Python on this machine, and their paths."""
    return {version: path for version in VERSIONS if (path := interpreter(version))}


@pytest.fixture(scope="module", params=PROJECTS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source archive and the wheel of a project."""
    folder = tmp_path_factory.mktemp(request.param)
    build(PROJECTS[request.param], folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    build(ROOT, folder)
    return next(folder.glob("*.whl"))


def build(project: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_the_metadata_are_ready_for_an_index(built: Path) -> None:
    archives = sorted(built.iterdir())
    assert [archive.suffix for archive in archives] == [".whl", ".gz"]
    assert all(__version__ in archive.name for archive in archives)
    check = [*TOOLS, "python", "-m", "twine", "check", "--strict", *map(str, archives)]
    checked = subprocess.run(check, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASSED") == len(archives)


def test_the_source_archive_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (archive,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(archive) as sources:
        sources.extractall(tmp_path, filter="data")
    (project,) = tmp_path.iterdir()
    build(project, tmp_path / "again")
    again = next((tmp_path / "again").glob("*.whl"))
    assert files(again) == files(wheel)


def test_every_supported_python_is_tried() -> None:
    missing = [version for version in VERSIONS if version not in found()]
    said = f"Not on this machine, so not tried: Python {', '.join(missing)}" if missing else "All versions were tried."
    sys.stdout.write(f"{said}\n")
    assert found()


@pytest.mark.timeout(2700)
def test_the_wheel_serves_the_first_request_with_every_python(wheel: Path, tmp_path: Path) -> None:
    for version, path in found().items():
        serve_first_request(wheel, path, tmp_path / version)


def serve_first_request(wheel: Path, interpreter: str, folder: Path) -> None:
    python = folder / "environment/bin/python"
    subprocess.run([*UV, "venv", "--python", interpreter, str(python.parents[1])], check=True)
    install = [*UV, "pip", "install", "--python", str(python)]
    subprocess.run([*install, "--require-hashes", "--requirement", str(RUNTIME)], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    command, elsewhere = python.with_name("aipartnerupflow"), folder / "elsewhere"
    elsewhere.mkdir()
    said = subprocess.run([str(command), "version"], cwd=elsewhere, env=environment(), capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, f"{__version__}\n", "")
    with serving(python.parent, data_dir=folder / "data", working_dir=elsewhere) as url:
        answer = curl(FIRST_REQUEST, base_url=url).json()
    assert answer["result"]["contextId"] == "task1"


def test_the_bill_of_materials_lists_every_package_of_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    made = subprocess.run([*TOOLS, "python", str(ROOT / "scripts/sbom.py"), str(file)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    listed = {(component["name"], component["version"]) for component in bill["components"]}
    lock = (ROOT / "requirements/all.txt").read_text()
    for_others = re.compile(r"== '(win32|emscripten|PyPy)'|!= 'CPython'|>= '3.15'")
    for name, version, marker in re.findall(r"^([a-z0-9._-]+)==(\S+)(.*) \\$", lock, re.MULTILINE):
        assert ((name, version) in listed) != bool(for_others.search(marker)), name
    assert all(component["licenses"] for component in bill["components"])
    (ours,) = [each for each in bill["dependencies"] if each["ref"] == "aipartnerupflow"]
    assert {"django", "crewai", "trafilatura"} <= {ref.split("/")[1].split("@")[0] for ref in ours["dependsOn"]}
