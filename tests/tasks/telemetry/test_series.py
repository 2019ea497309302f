"""On a full disk no series begins, those that have begun go on, and no process dies."""

import subprocess
import uuid
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

from tasks.telemetry import metrics as module
from tasks.telemetry.metrics import NoRoom, metrics_folder, own_registry, series
from tests.servers import PYTHON, ROOT

MORE_THAN_ANY_DISK: Final = 1 << 80
DISK: Final = "/mnt"
"""Where the process of a test, and no other, sees a small disk."""
COUNTS_ON_A_FULL_DISK: Final = """
from contextlib import suppress
from pathlib import Path
from prometheus_client import Counter
from tasks.telemetry.metrics import NoRoom, own_registry, series

def count(first, last):
    for number in range(first, last):
        with suppress(NoRoom):
            series(counter, f"{number:0200}").inc()

counter = Counter("counted", "What was counted", ["number"], registry=own_registry())
count(0, 100)
filler = Path("/mnt/filler")
with suppress(OSError), filler.open("wb", buffering=0) as file:
    while file.write(bytes(4096)):
        pass
count(0, 5_000)
filler.unlink()
count(4_000, 5_000)
count(0, 1)

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry, "/mnt/metrics")
[family] = registry.collect()
print(len(family.samples), sum(sample.value for sample in family.samples))
"""


@pytest.fixture
def counter() -> Counter:
    return Counter(f"of_a_test_{uuid.uuid4().hex}", "What a test counts", ["step"], registry=own_registry())


def in_files(counter: Counter) -> dict[str, float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(metrics_folder()))  # type: ignore[no-untyped-call]
    [name] = [family.name for family in counter.collect()]
    families = [family for family in registry.collect() if family.name == name]
    return {sample.labels["step"]: sample.value for family in families for sample in family.samples}


def test_what_began_goes_on_while_the_disk_is_full_and_the_rest_begins_when_there_is_room(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    series(counter, "early").inc()
    with monkeypatch.context() as full:
        full.setattr(module, "ROOM_BYTES", MORE_THAN_ANY_DISK)
        module._warn_once.cache_clear()
        series(counter, "early").inc()
        for _ in range(2):
            with pytest.raises(NoRoom):
                series(counter, "late")
        with pytest.raises(NoRoom):
            own_registry()
        assert in_files(counter) == {"early": 2}
    series(counter, "late").inc()
    assert in_files(counter) == {"early": 2, "late": 1}
    assert [record.levelname for record in caplog.records if "is full" in record.message] == ["WARNING"]


def test_a_folder_that_cannot_be_made_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(module.FOLDER_VARIABLE, str(tmp_path / "file" / "metrics"))
    with pytest.raises(NoRoom):
        own_registry()


@pytest.mark.nightly
def test_a_process_survives_a_disk_that_is_really_full() -> None:
    run = f'mount -t tmpfs -o size=8m tmpfs {DISK} && exec {PYTHON} -c "$PROGRAM"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", run],
        cwd=ROOT,
        env={"PROGRAM": COUNTS_ON_A_FULL_DISK, module.FOLDER_VARIABLE: f"{DISK}/metrics"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1100 1201.0\n"), done.stderr
