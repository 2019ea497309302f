"""What a Ray node gets from its worker, and when it refuses; `tests/acceptance/test_ray.py` has a cluster."""

import sys

import pytest

import aipartnerupflow
from apflow_site.config import load
from apflow_site.config.elsewhere import for_ray_nodes
from tasks.pools.ray import _entry

SECRET = "a-secret-of-the-tests-that-is-long-enough-0123456789"


def test_another_version_on_a_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tasks.pools.ray_node", raising=False)
    reason = _entry("0.0.9", {})("call", b"")
    assert reason == f"aipartnerupflow is {aipartnerupflow.__version__} there, and 0.0.9 on the worker"


def test_a_node_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tasks.pools.ray_node", raising=False)
    monkeypatch.setitem(sys.modules, "aipartnerupflow", None)
    assert "is not installed" in _entry("1.0.0", {})("call", b"")


def test_nodes_get_no_secret_and_no_database() -> None:
    config = load(
        {
            "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
            "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": f"{SECRET}-2",
            "AIPARTNERUPFLOW_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": "shop,bank",
            "AIPARTNERUPFLOW_EXECUTORS_CREWAI_TOOLS": "search=shop.Search",
        }
    )
    sent = for_ray_nodes(config)
    assert SECRET not in str(sent)
    assert sent["AIPARTNERUPFLOW_EXECUTORS_MODULES"] == "shop,bank"
    assert load(sent).executors.crewai.tools == {"search": "shop.Search"}
