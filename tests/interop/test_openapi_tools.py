"""Tools for OpenAPI that others use: a linter, and a generator of clients. `tests/clients` has the types for TypeScript."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from a2a.rest.openapi import openapi_document
from tests.interop.environments import WITH_NODE, node_packages, python_with

pytestmark = pytest.mark.nightly
SECONDS = 300


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(openapi_document(with_authentication=True)))
    return file


def test_spectral_finds_no_fault(document: Path) -> None:
    folder = node_packages(Path(__file__).parent / "spectral_js")
    program = folder / "node_modules/.bin/spectral"
    command = ["node", str(program), "lint", "--ruleset", str(folder / "rules.yaml"), "--fail-severity", "warn"]
    done = subprocess.run(
        [*command, str(document)], env=WITH_NODE, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generated_client_for_python_has_every_operation(document: Path, tmp_path: Path) -> None:
    python = python_with("openapi-python-client-0.29.1", "openapi-python-client==0.29.1")
    generate = [str(python), "-m", "openapi_python_client", "generate", "--path", str(document), "--meta", "none"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it formats with ruff
    done = subprocess.run(
        [*generate, "--output-path", str(tmp_path / "made")],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout.upper(), done.stdout
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tmp_path / "made")], check=True, timeout=SECONDS)
    made = {file.stem for file in (tmp_path / "made/api").rglob("*.py")}
    paths = json.loads(document.read_text())["paths"].values()
    operations = {each["operationId"] for methods in paths for each in methods.values()}
    assert len(made - {"__init__"}) == len(operations), sorted(made)
