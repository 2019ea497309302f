"""Every package that serving needs has a licence that docs/contributing/release.md allows."""

import subprocess
import sys
from runpy import run_path
from typing import Any, Final

import pytest

from tests.servers import ROOT

SCRIPT: Final = ROOT / "scripts/licences.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return run_path(str(SCRIPT))


def test_every_locked_package_has_an_allowed_licence() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 200


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT AND (MPL-2.0 OR Apache-2.0)", None),
        ("GPL-3.0-or-later", "GPL-3.0-or-later is not allowed"),
        ("MIT AND AGPL-3.0-only", "AGPL-3.0-only is not allowed"),
        ("", "declares no licence"),
        ("Proprietary", "Proprietary is not allowed"),
    ],
)
def test_what_the_policy_does_not_allow_is_named(script: dict[str, Any], licence: str, said: str | None) -> None:
    package = script["Package"](name="some", version="1", licence=licence, hashes=(), requires=())
    faults = list(script["faults"]([package]))
    assert [said in fault for fault in faults if said] == ([True] if said else [])
    assert bool(faults) == bool(said)


def test_no_exception_is_left_from_a_package_that_is_gone(script: dict[str, Any]) -> None:
    locked = {match["name"] for match in script["LOCKED"].finditer(script["LOCK"].read_text())}
    assert script["READ"].keys() <= locked
