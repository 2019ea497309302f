"""A disk that is full stops the counting at most, and kills nobody."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from tasks.telemetry.metrics_files import FIRST_BYTES, Counts

MANY = 1_000
"""More than fit into a file of the first size."""


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def count(counts: Counts, many: int, value: float) -> None:
    for number in range(many):
        counts.write_value(f"a key that has about as many characters as they do, {number}", value, 0.0)  # type: ignore[no-untyped-call]


def read(counts: Counts) -> list[float]:
    return [value for _, value, _ in counts.read_all_values()]  # type: ignore[no-untyped-call]


def in_file(path: Path) -> list[float]:
    return [value for _, value, _, _ in MmapedDict.read_all_values_from_file(str(path))]  # type: ignore[no-untyped-call]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counter_1.db"


def test_the_file_has_no_hole_that_the_disk_must_fill_later(path: Path) -> None:
    counts = Counts(str(path))
    count(counts, 1, 1.0)
    assert path.stat().st_size == FIRST_BYTES
    assert path.stat().st_blocks * 512 >= FIRST_BYTES
    count(counts, MANY, 2.0)
    assert path.stat().st_size > FIRST_BYTES
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert read(counts) == in_file(path) == [2.0] * MANY
    counts.close()  # type: ignore[no-untyped-call]


def test_who_comes_after_goes_on_in_the_same_file(path: Path) -> None:
    first = Counts(str(path))
    count(first, 2, 1.0)
    first.close()  # type: ignore[no-untyped-call]
    second = Counts(str(path))
    assert read(second) == [1.0, 1.0]
    second.close()  # type: ignore[no-untyped-call]


def test_without_room_a_process_counts_for_itself(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with no_room_beyond(1_000):
        counts = Counts(str(path))
    assert f"No room to count in {path} (File too large)" in caplog.text
    assert not path.exists()  # which /metrics could not read
    count(counts, MANY, 2.0)
    assert read(counts) == [2.0] * MANY


def test_where_room_ends_what_was_counted_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts(str(path))
    count(counts, 2, 1.0)
    with no_room_beyond(FIRST_BYTES + 1_000):
        count(counts, MANY, 2.0)
    assert "No room to count" in caplog.text
    assert path.stat().st_size == FIRST_BYTES
    assert read(counts) == [2.0] * MANY
    kept = in_file(path)
    assert 0 < len(kept) < MANY and set(kept) == {2.0}
