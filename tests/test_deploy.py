"""What is in `deploy/` and the Dockerfile, as far as it can be tried without a container engine."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import yaml

from apflow_site.config import known_settings, variables
from tests.ports import free_port
from tests.servers import PYTHON, Server, events_of, until

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
VARIABLES = {variable for key in known_settings() for variable in variables(key)}
NAP = {"name": "sleep_executor", "inputs": {"seconds": 600, "steps": 600}}


def program(name: str) -> str:
    found = which(name)
    assert found, f"These tests need {name}: apt-get install {name.replace('systemd-analyze', 'systemd')}"
    return found


# --- the image ---


def test_the_dockerfile_has_no_known_weakness() -> None:
    hadolint = Path(PYTHON).with_name("hadolint")
    subprocess.run([str(hadolint), "Dockerfile"], cwd=ROOT, check=True)


def test_the_image_gets_every_folder_of_the_wheel() -> None:
    packaged = re.search(r"^only-include = (\[.*\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packaged
    folders = set(yaml.safe_load(packaged[1]))
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert folders <= set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert {f"!{folder}" for folder in folders} <= set((ROOT / ".dockerignore").read_text().split())


def test_the_image_starts_what_the_guide_says() -> None:
    last = (ROOT / "Dockerfile").read_text().splitlines()[-1]
    assert last == 'CMD ["aipartnerupflow-server", "--host", "0.0.0.0", "--port", "8000"]'


# --- compose ---


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_the_compose_file_refers_to_what_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= SERVICES.keys()
    for needed, condition in service.get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[needed] or SERVICES[needed]["image"] == "aipartnerupflow"
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file()
    assert {name for name in service.get("environment", {}) if name.startswith("AIPARTNERUPFLOW_")} <= VARIABLES


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_command_of_the_compose_file_is_one_of_ours(name: str) -> None:
    script, *words = SERVICES[name]["command"]
    words = [*(["serve"] if script == "aipartnerupflow-server" else []), *words]
    said = subprocess.run([sys.executable, "-m", "aipartnerupflow", *words, "--help"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_secrets_must_be_given() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "AIPARTNERUPFLOW_JWT_SECRET"):
        assert set(re.findall(rf"\$\{{{name}([^}}]*)\}}", text)) == {":?make one"}


# --- systemd ---


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda path: path.name)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    # The commands of the unit are not installed here; systemd looks for them.
    (tmp_path / unit.name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    checked = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(tmp_path / unit.name)], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda path: path.name)
def test_the_unit_is_hardened_as_printed(unit: Path) -> None:
    rated = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--threshold=40", str(unit)],
        capture_output=True,
        text=True,
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr


# --- nginx ---


@pytest.fixture(scope="module")
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture(scope="module")
def proxied(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx in front of the server, with our configuration."""
    with nginx(tmp_path_factory.mktemp("nginx"), upstreams=[server.url.removeprefix("http://")]) as url:
        yield url


def nginx_command(folder: Path, *, listen: str, upstreams: Sequence[str]) -> list[str]:
    """Write the page's configuration into the folder. Returns the command that runs nginx with it."""
    ours = (DEPLOY / "nginx.conf").read_text()
    assert "server web:8000 max_fails=0;" in ours
    servers = " ".join(f"server {each} max_fails=0;" for each in upstreams)
    ours = ours.replace("server web:8000 max_fails=0;", servers).replace("listen 80;", f"listen {listen};")
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{ours}}}\n"
    )
    return [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


@contextmanager
def nginx(folder: Path, *, upstreams: Sequence[str]) -> Iterator[str]:
    port = free_port()
    command = nginx_command(folder, listen=f"127.0.0.1:{port}", upstreams=upstreams)
    with subprocess.Popen(command) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _answers(url), seconds=60, what="an answer of nginx")
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def cancelling(task_id: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tasks.cancel", "params": {"task_ids": [task_id]}}


def test_a_stream_passes_the_proxy_as_it_comes(proxied: str) -> None:
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks.execute",
        "params": {"use_streaming": True, "tasks": [NAP]},
    }
    with httpx.stream("POST", f"{proxied}/tasks", json=request, timeout=120) as response:
        lines = response.iter_lines()
        seen: list[tuple[str, bool]] = []
        for event in events_of(lines):
            if "type" in event:
                seen.append((event["type"], _is_finished(proxied, event)))
                if seen[-1] == ("progress", False):
                    httpx.post(f"{proxied}/tasks", json=cancelling(event["task_id"]), timeout=120).raise_for_status()
    assert seen[0] == ("task_start", False)
    assert ("progress", False) in seen  # it came while the task was running, not with the end of the response
    assert seen[-1][0] == "stream_end"


@pytest.mark.parametrize(
    ("path", "code"), [("/tasks", -32600), ("/", -32600), ("/api/tasks/", "too_large"), ("/auth/login", "too_large")]
)
def test_the_proxy_refuses_a_body_in_the_format_of_the_interface(proxied: str, path: str, code: int | str) -> None:
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{proxied}{path}", content=b" " * 12 * 2**20, headers=headers, timeout=60)
    assert (response.status_code, response.headers["Content-Type"]) == (413, "application/json")
    assert response.json()["error"]["code"] == code


def _is_finished(url: str, event: dict[str, Any]) -> bool:
    return bool(httpx.get(f"{url}/api/tasks/{event['task_id']}/", timeout=60).json()["status"] == "completed")


def test_the_proxy_passes_a_refusal_on(proxied: str) -> None:
    response = httpx.post(f"{proxied}/tasks", content=b"{", headers={"Content-Type": "application/json"}, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32700)


def test_the_proxy_limits_headers_too(proxied: str) -> None:
    for headers in ({"X": "x" * 20_000}, {f"X-{number}": "x" * 9_000 for number in range(8)}):
        assert httpx.get(f"{proxied}/health", headers=headers, timeout=60).status_code in (400, 431)
    assert (
        httpx.get(f"{proxied}/health", headers={f"X-{number}": "x" for number in range(101)}, timeout=60).status_code
        == 431
    )
    assert httpx.get(f"{proxied}/health", headers={f"X-{number}": "x" for number in range(80)}, timeout=60).is_success
