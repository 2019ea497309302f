"""A service of buckets: moto's server, an S3 over HTTP in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import httpx
import obstore
from obstore.store import S3Store

from tests.ports import free_port
from tests.servers import until

SECRET: Final = "the-secret-access-key-of-the-tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and the settings with which a server keeps its files there."""

    endpoint: str
    name: str = "files-of-tests"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AIPARTNERUPFLOW_FILES_STORE": f"s3://{self.name}/some/prefix",
            "AIPARTNERUPFLOW_FILES_S3_ENDPOINT": self.endpoint,
            "AIPARTNERUPFLOW_FILES_S3_REGION": "eu-central-1",
            "AIPARTNERUPFLOW_FILES_S3_ACCESS_KEY_ID": "key-of-tests",
            "AIPARTNERUPFLOW_FILES_S3_SECRET_ACCESS_KEY": SECRET,
        }

    @property
    def _store(self) -> S3Store:
        return S3Store(
            self.name,
            prefix="some/prefix",
            endpoint=self.endpoint,
            region="eu-central-1",
            access_key_id="key-of-tests",
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )

    def put(self, path: str, data: bytes) -> None:
        """Write over what is there."""
        obstore.put(self._store, path, data)

    def objects(self) -> dict[str, bytes]:
        """What the bucket has under the prefix: the bytes of each object by its key."""
        store = self._store
        found = dict[str, bytes]()
        for path in sorted(each["path"] for page in obstore.list(store) for each in page):
            key = path.split("/")[0]
            found[key] = found.get(key, b"") + bytes(obstore.get(store, path).bytes())
        return found


@contextmanager
def running_bucket(bucket: Bucket | None = None) -> Iterator[Bucket]:
    """An empty bucket, until the end of the block: a new one, or this one again."""
    bucket = bucket or Bucket(endpoint=f"http://127.0.0.1:{free_port()}")
    port = bucket.endpoint.rpartition(":")[2]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_made() -> bool:
        assert process.poll() is None
        with suppress(httpx.TransportError):
            where = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"
            answer = httpx.put(f"{bucket.endpoint}/{bucket.name}", content=where)
            return answer.status_code in (
                200,
                409,
            )  # 409: it was made by a call for whose answer the client did not wait
        return False

    try:
        until(is_made, seconds=60, what="the bucket")
        yield bucket
    finally:
        process.kill()
        process.wait(60)
