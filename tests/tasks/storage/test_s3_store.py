"""The store in a bucket: writers that meet, requests whose responses are lost, and a service that is not there."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.ids import new_id
from tasks.rules.exceptions import StoreUnavailable
from tasks.storage.file_store import ObjectBusy, ObjectDamaged
from tasks.storage.s3_store import S3, SEGMENT
from tests.ports import free_port
from tests.s3_server import SECRET, Bucket, running_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with running_bucket() as found:
        yield found


@pytest.fixture
def store(bucket: Bucket) -> S3:
    return opened(bucket.endpoint, bucket.name)


def opened(endpoint: str, name: str, **options: Any) -> S3:
    keys = {"access_key_id": "key-of-tests", "secret_access_key": SECRET}
    return S3(f"s3://{name}/some/prefix", endpoint=endpoint, region="eu-central-1", **keys, **options)


def all_of(store: S3, key: str, size: int) -> bytes:
    return b"".join(store.read(key, 0, size))


def test_an_object_is_written_in_segments_and_read_in_ranges(store: S3, bucket: Bucket) -> None:
    key, data = new_id(), os.urandom(2 * SEGMENT + 100_000)
    writer = store.append(key, afresh=True)
    for start in range(0, len(data), 1_000_000):
        writer.write(data[start : start + 1_000_000])
    assert 0 < store.size(key) < len(data)
    writer.complete()
    writer.close()
    assert (store.size(key), bucket.objects()[key]) == (len(data), data)
    for start, stop in ((0, 10), (SEGMENT - 5, SEGMENT + 1_500_000), (len(data) - 1, len(data)), (0, len(data))):
        assert b"".join(store.read(key, start, stop)) == data[start:stop]
    with pytest.raises(ObjectDamaged):
        list(store.read(key, 0, len(data) + 1))
    store.remove(key)
    store.remove(key)
    assert (store.size(key), key in bucket.objects()) == (0, False)
    with pytest.raises(ObjectDamaged):
        list(store.read(key, 0, 10))


def test_what_a_closed_writer_had_stays_and_another_continues(store: S3) -> None:
    key = new_id()
    for part in (b"one ", b"two ", b"three"):
        writer = store.append(key, afresh=False)
        writer.write(part)
        writer.close()
    dropped = store.append(key, afresh=False)
    dropped.write(b"never")
    dropped.close(keep=False)
    assert all_of(store, key, store.size(key)) == b"one two three"


def test_of_two_writers_the_second_is_refused_and_no_byte_of_it_is_stored(store: S3) -> None:
    key = new_id()
    first, second = store.append(key, afresh=True), store.append(key, afresh=True)
    first.write(b"first")
    second.write(b"second")
    first.complete()
    with pytest.raises(ObjectBusy):
        second.complete()
    second.close()
    assert all_of(store, key, store.size(key)) == b"first"


def test_a_segment_whose_response_was_lost_may_be_sent_again(store: S3) -> None:
    key = new_id()
    first, again = store.append(key, afresh=True), store.append(key, afresh=True)
    for writer in (first, again):
        writer.write(b"the same")
        writer.complete()
    assert all_of(store, key, store.size(key)) == b"the same"


def test_a_service_that_does_not_answer_is_named_and_its_key_is_not(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = opened(f"http://127.0.0.1:{free_port()}", bucket.name)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        nowhere.size(new_id())
    missing = opened(bucket.endpoint, "another-bucket")
    with pytest.raises(StoreUnavailable):
        missing.size(new_id())
    assert "NoSuchBucket" in str(missing.check()) or "404" in str(missing.check())
    assert "S3: " in caplog.text
    for text in (caplog.text, str(nowhere.check()), str(missing.check())):
        assert SECRET not in text


def test_the_check_of_a_bucket_leaves_nothing(store: S3, bucket: Bucket) -> None:
    before = bucket.objects()
    assert store.check() is None
    assert bucket.objects() == before
