"""`deploy/alerts.yaml`: every rule asks for series that a server has, and the page says what to do at each alert."""

import re
import shutil
import subprocess
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.documents import PAGES, text
from tests.servers import ROOT, Server

RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PAGE: Final = ROOT / "docs/how-to/alerts.md"
SERIES: Final = re.compile(r"\b(apflow_\w+)(?:\{([^}]*)\})?")
LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
DURATION: Final = re.compile(r"\d+[mhd]")
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])


@pytest.fixture(scope="module")
def series(open_server: Server) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """The name and labels of each series of a server."""
    families = text_string_to_metric_families(open_server.http.get("/metrics").text)
    return {(each.name, frozenset(each.labels.items())) for family in families for each in family.samples}


@each_rule
def test_a_rule_asks_for_series_that_a_new_server_has(
    rule: dict[str, Any], series: set[tuple[str, frozenset[tuple[str, str]]]]
) -> None:
    asked = [(each[1], each[2] or "") for each in SERIES.finditer(rule["expr"])]
    assert asked or rule["expr"] == 'up{job="aipartnerupflow"} == 0'
    for name, labels in asked:
        wanted = set(LABEL.findall(labels))
        assert any(found == name and wanted <= own for found, own in series), f"{rule['alert']}: {name} {labels}"


@each_rule
def test_a_rule_is_complete(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/how-to/alerts.md#{rule['alert'].lower()}"
    assert DURATION.fullmatch(rule.get("for", "0m"))
    for opening, closing in (("(", ")"), ("[", "]"), ("{", "}")):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)


def test_a_counter_is_asked_for_its_increase_and_summed_over_machines() -> None:
    for rule in RULES:
        for name in re.findall(r"apflow_\w+_(?:total|bucket)\b", rule["expr"]):
            assert re.search(rf"sum(?: by \(le\))? ?\((?:increase|rate)\({name}\b", rule["expr"]), rule["alert"]


def test_the_page_says_what_to_do_at_each_alert_and_at_no_other() -> None:
    assert PAGE in PAGES
    assert re.findall(r"^## (Apflow\w+)$", PAGE.read_text(), re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_page_names_the_file_with_the_rules() -> None:
    names = yaml.safe_load(text("docs/how-to/alerts.md", "Alerts", "yaml"))["rule_files"]
    for name in names:
        assert yaml.safe_load((ROOT / "deploy" / name).read_text())["groups"]


@pytest.mark.nightly
@pytest.mark.parametrize(
    "words",
    [("check", "rules", "deploy/alerts.yaml"), ("test", "rules", "tests/apflow_site/alerts_test.yaml")],
    ids=["it accepts them", "they fire when they should, and only then"],
)
def test_promtool_knows_the_rules(words: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "This needs promtool. On Debian: apt-get install --no-install-recommends promtool"
    done = subprocess.run([promtool, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
