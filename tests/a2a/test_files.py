"""Files over real HTTP: uploads in one request and in several, ranges, what is refused, and that nothing is left behind."""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from aipartnerupflow.client import AsyncClient, Client, InvalidRequest, NotFound
from tests.a2a.breaking import breaking
from tests.a2a.conftest import Rpc
from tests.ports import free_port
from tests.s3_server import Bucket, running_bucket
from tests.servers import Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
PIECE = 64 * 1024


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unlike(size: int) -> bytes:
    """Bytes that no other test has."""
    return os.urandom(size)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(http: httpx.Client, file_id: str, data: bytes, *, at: int = 0) -> httpx.Response:
    return http.put(f"/files/{file_id}", content=data, headers={"Upload-Offset": str(at)})


@pytest.fixture(params=["folder", "encrypted folder", "bucket", "encrypted bucket"], scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bucket(kind: str) -> Iterator[Bucket | None]:
    """The bucket in which the server keeps its files; None if it is a folder."""
    with running_bucket() if "bucket" in kind else nullcontext() as found:
        yield found


@pytest.fixture
def objects(server: Server, bucket: Bucket | None) -> Callable[[], dict[str, bytes]]:
    """All objects in the store."""
    if bucket is not None:
        return bucket.objects
    return lambda: {path.name: path.read_bytes() for path in (server.data_dir / "files").glob("*/*")}


@pytest.fixture(scope="module")
def server(kind: str, bucket: Bucket | None) -> Iterator[Server]:
    """A server with small limits for files, and without a worker: only requests change something."""
    settings = {
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": "1000000",
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES_PER_USER": "2000000",
        "AIPARTNERUPFLOW_FILES_ENCRYPT": str("encrypted" in kind).lower(),
        "AIPARTNERUPFLOW_FILES_LINK_MINUTES": "5",
        **(bucket.settings if bucket else {}),
    }
    with new_database() as database_url, running_server(database_url, "--no-worker", env=settings) as found:
        yield found


@pytest.fixture
def rpc(server: Server) -> Rpc:
    return server.rpc


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.http


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server, bucket: Bucket | None, objects: Callable[[], dict[str, bytes]]) -> Iterator[None]:
    """Each test deletes its files. Then there is nothing in the store, no row but those that wait for the sweep, and all space is free."""
    yield
    for file in server.rpc("files.list", {"limit": 1000})["files"]:
        server.rpc("files.delete", {"file_id": file["id"]})
    until(lambda: not objects(), seconds=20, what="the end of all objects")  # a client that left waits for nothing
    lingers = "WHERE doomed_at IS NULL" if bucket else ""
    until(lambda: not server.query(f"SELECT key FROM tasks_filebytes {lingers}"), seconds=20, what="their rows' end")
    assert server.rpc("files.list", {})["used_bytes"] == 0


@pytest.mark.both_engines
def test_a_file_goes_in_and_out_in_one_request_each(
    http: httpx.Client, server: Server, rpc: Rpc, objects: Callable[[], dict[str, bytes]]
) -> None:
    data = unlike(700_000)
    sent = http.post("/files", params={"name": "Jahresbericht ä.pdf", "sha256": sha256(data)}, content=data)
    assert sent.status_code == 201, sent.text
    value = sent.json()
    assert value == {
        "$file": value["$file"],
        "name": "Jahresbericht ä.pdf",
        "media_type": "application/pdf",
        "bytes": len(data),
        "sha256": sha256(data),
    }
    assert http.get(f"/files/{value['$file']}").content == data
    shown = rpc("files.get", {"file_id": value["$file"]})
    assert (shown["file"], shown["is_complete"], shown["received"]) == (value, True, len(data))
    (listed,) = rpc("files.list", {})["files"]
    assert (listed["id"], rpc("files.list", {})["used_bytes"]) == (value["$file"], len(data))
    (stored,) = objects().values()
    ((sealed_key,),) = server.query("SELECT sealed_key FROM tasks_filebytes WHERE doomed_at IS NULL")
    assert (stored == data) is (sealed_key is None)
    assert data[:32] not in stored or sealed_key is None
    assert rpc("files.delete", {"file_id": value["$file"]}) == {"file_id": value["$file"]}
    assert http.get(f"/files/{value['$file']}").status_code == 404


@pytest.mark.both_engines
def test_an_upload_goes_on_after_what_has_arrived(http: httpx.Client, server: Server, rpc: Rpc) -> None:
    data = unlike(3 * PIECE + 17)
    file_id = rpc("files.create", {"name": "a.bin", "bytes": len(data), "sha256": sha256(data)})["id"]
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as client:  # a client that dies in the middle
        head = f"PUT /files/{file_id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data[: 2 * PIECE + 5])
    received = until(lambda: rpc("files.get", {"file_id": file_id})["received"], seconds=20, what="its bytes")
    assert 2 * PIECE <= received <= 2 * PIECE + 5
    until(lambda: put(http, file_id, b"", at=1).status_code != 409 or free(http, file_id), seconds=20, what="the lock")
    wrong = put(http, file_id, data[1:], at=1)
    assert (wrong.status_code, wrong.json()["error"]["data"]["received"]) == (409, received)
    assert put(http, file_id, data[received:], at=received).json()["is_complete"] is True
    assert http.get(f"/files/{file_id}").content == data
    again = put(http, file_id, data)
    assert (again.status_code, again.json()["error"]["message"]) == (409, f"File '{file_id}' is complete.")


def test_an_upload_may_come_in_several_requests(http: httpx.Client, rpc: Rpc) -> None:
    data = unlike(2 * PIECE)
    file_id = rpc("files.create", {"name": "a.bin", "bytes": len(data), "sha256": sha256(data)})["id"]
    first = put(http, file_id, data[:PIECE]).json()
    assert (first["is_complete"], first["received"], first["file"]) == (False, PIECE, None)
    assert http.get(f"/files/{file_id}").status_code == 409
    second = put(http, file_id, data[PIECE:], at=PIECE).json()
    assert (second["is_complete"], second["received"], second["sha256"]) == (True, len(data), sha256(data))
    assert http.get(f"/files/{file_id}").content == data


def free(http: httpx.Client, file_id: str) -> bool:
    """Whether no other request is writing the file."""
    return "received" in put(http, file_id, b"", at=1).json()["error"]["data"]


@pytest.mark.both_engines
def test_the_same_bytes_are_stored_once(http: httpx.Client, rpc: Rpc, objects: Callable[[], dict[str, bytes]]) -> None:
    data = unlike(50_000)
    first, second = (http.post("/files", params={"name": name}, content=data).json() for name in ("a.txt", "b.csv"))
    assert first["$file"] != second["$file"] and first["sha256"] == second["sha256"]
    assert (len(objects()), rpc("files.list", {})["used_bytes"]) == (1, len(data))
    rpc("files.delete", {"file_id": first["$file"]})
    assert http.get(f"/files/{second['$file']}").content == data


RANGES = [
    ("bytes=0-9", 206, slice(0, 10)),
    ("bytes=65530-65545", 206, slice(65530, 65546)),
    ("bytes=131072-", 206, slice(131072, None)),
    ("bytes=-7", 206, slice(-7, None)),
    ("bytes=100-99999999", 206, slice(100, None)),
    ("bytes=-99999999", 206, slice(None)),
    ("bytes=5-2", 200, slice(None)),
    ("bytes=0-1,5-6", 200, slice(None)),
    ("lines=1-2", 200, slice(None)),
    ("bytes=-", 200, slice(None)),
]


def test_ranges(http: httpx.Client) -> None:
    data = unlike(2 * PIECE + 1000)
    path = f"/files/{http.post('/files', params={'name': 'a'}, content=data).json()['$file']}"
    for asked, status, part in RANGES:
        found = http.get(path, headers={"Range": asked})
        assert (found.status_code, found.content) == (status, data[part]), asked
        assert int(found.headers["Content-Length"]) == len(found.content)
    assert http.get(path, headers={"Range": "bytes=0-9"}).headers["Content-Range"] == f"bytes 0-9/{len(data)}"
    for asked in ("bytes=999999999-", "bytes=-0"):
        found = http.get(path, headers={"Range": asked})
        assert (found.status_code, found.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    head = http.head(path)
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(data)))
    etag = head.headers["ETag"]
    assert http.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert http.get(path, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert http.get(path, headers={"Range": "bytes=0-9", "If-Range": '"older"'}).status_code == 200


def test_an_empty_file_is_a_file(http: httpx.Client, rpc: Rpc) -> None:
    value = http.post("/files", params={"name": "empty"}, content=b"").json()
    assert (value["bytes"], value["sha256"]) == (0, sha256(b""))
    assert http.get(f"/files/{value['$file']}", headers={"Range": "bytes=0-"}).status_code in (200, 416)
    announced = rpc("files.create", {"name": "empty too", "bytes": 0})
    assert put(http, announced["id"], b"").json()["file"]["bytes"] == 0


BAD_NAMES = ["..", ".", "a/b", "../etc/passwd", "a\\b", "a\nb", "a\tb", " ", "x\u202egpj.exe", "ä" * 128]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_a_path_or_hides_something_is_refused(http: httpx.Client, server: Server, name: str) -> None:
    sent = http.post("/files", params={"name": name}, content=b"x")
    assert (sent.status_code, sent.json()["error"]["data"][0]["field"]) == (400, "name"), sent.text
    refused = server.call("files.create", {"name": name, "bytes": 1})["error"]
    assert (refused["code"], refused["data"][0]["field"]) == (-32602, "name")


def test_what_cannot_become_the_file_is_refused_and_deleted(http: httpx.Client, server: Server, rpc: Rpc) -> None:
    """The fixture looks for what is left."""
    known = {file["id"] for file in rpc("files.list", {})["files"]}
    wrong = http.post("/files", params={"name": "a", "sha256": "0" * 64}, content=b"abc")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, -32602)
    large = http.post("/files", params={"name": "a"}, content=b"x" * 1_000_001)
    assert large.status_code == 413 and "(limits.file_bytes)" in large.text
    parts = (b"x" * 100_000 for _ in range(11))
    assert http.post("/files", params={"name": "a"}, content=parts).status_code == 413
    assert "limits.file_bytes" in str(server.call("files.create", {"name": "a", "bytes": 1_000_001})["error"])
    announced = rpc("files.create", {"name": "a", "bytes": 3})["id"]
    assert put(http, announced, b"abcd").status_code == 413
    longer = rpc("files.create", {"name": "a", "bytes": 3})["id"]
    more = http.put(f"/files/{longer}", content=iter([b"ab", b"cd"]))
    assert more.status_code == 413 and server.call("files.get", {"file_id": longer})["error"]["code"] == -32001
    other = rpc("files.create", {"name": "a", "bytes": 3, "sha256": "0" * 64})["id"]
    assert put(http, other, b"abc").status_code == 422
    assert server.call("files.get", {"file_id": other})["error"]["code"] == -32001
    assert {file["id"] for file in rpc("files.list", {})["files"]} == known | {announced}
    packed = http.post("/files", params={"name": "a"}, content=b"x", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    for query in ({}, {"name": "a", "nmae": "b"}, {"name": "a", "sha256": "abc"}):
        assert http.post("/files", params=query, content=b"x").status_code == 400


def test_a_client_that_leaves_leaves_nothing_of_an_upload_in_one_request(server: Server, rpc: Rpc) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(
            b"POST /files?name=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + b"x" * 70_000
        )
        until(lambda: rpc("files.list", {})["files"], seconds=20, what="the upload")
    until(lambda: not rpc("files.list", {})["files"], seconds=20, what="its end")


@pytest.mark.both_engines
def test_the_files_of_a_user_have_a_limit_together(http: httpx.Client, server: Server, rpc: Rpc) -> None:
    for _ in range(2):
        assert http.post("/files", params={"name": "a"}, content=unlike(950_000)).status_code == 201
    full = http.post("/files", params={"name": "a"}, content=unlike(200_000))
    assert full.status_code == 429 or "limits.file_bytes_per_user" in full.text
    assert "limits.file_bytes_per_user" in str(server.call("files.create", {"name": "a", "bytes": 200_000})["error"])
    reserved = rpc("files.create", {"name": "a", "bytes": 100_000})
    assert rpc("files.list", {})["used_bytes"] == 2_000_000
    rpc("files.delete", {"file_id": reserved["id"]})
    assert http.post("/files", params={"name": "a"}, content=unlike(50_000)).status_code == 201


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("page.html", "text/html"),
        ("x.svg", "image/svg+xml"),
        ("a.js", ""),
        ("a.png", "text/html"),
        ("a.css", "text/css"),
        ("a.xhtml", ""),
    ],
)
def test_a_browser_runs_nothing_of_a_file(http: httpx.Client, name: str, sent: str) -> None:
    """Polyglots too: what a file is said to be decides, and is never guessed."""
    content = b"GIF89a/*<svg/onload=alert(1)>*/=1;alert(1)//<script>alert(1)</script>"
    value = http.post(
        "/files", params={"name": name}, content=content, headers={"Content-Type": sent} if sent else {}
    ).json()
    found = http.get(f"/files/{value['$file']}", headers={"Accept": "text/html"})
    assert found.headers["Content-Type"] == "application/octet-stream"
    assert found.headers["Content-Disposition"].startswith("attachment; ")
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert found.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_name_cannot_end_its_header(http: httpx.Client) -> None:
    value = http.post("/files", params={"name": 'a"; filename=evil.exe; x="é.txt'}, content=b"x").json()
    sent = http.get(f"/files/{value['$file']}").headers["Content-Disposition"]
    assert sent == (
        'attachment; filename="a__ filename_evil.exe_ x___.txt"; '
        "filename*=UTF-8''a%22%3B%20filename%3Devil.exe%3B%20x%3D%22%C3%A9.txt"
    )


@pytest.mark.parametrize("path", ["/files/../secret_key", "/files/..%2Fsecret_key", "/files/%2e%2e", "/files/a%00b"])
def test_a_path_leads_nowhere_else(server: Server, path: str) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"404", b"400"), answer


def test_a_link_is_for_one_file_and_some_minutes(http: httpx.Client, server: Server, rpc: Rpc) -> None:
    first, second = (http.post("/files", params={"name": "a"}, content=unlike(9)).json()["$file"] for _ in range(2))
    link = rpc("files.link", {"file_id": first, "minutes": 2})
    assert link["url"].startswith(f"{server.url}/files/{first}?link=")
    assert http.get(link["url"]).status_code == 200
    for wrong in (link["url"].replace(first, second), link["url"] + "x", f"/files/{first}?link=abc"):
        assert http.get(wrong).status_code == 404
    assert "files.link_minutes" in str(server.call("files.link", {"file_id": first, "minutes": 6})["error"])
    assert http.put(link["url"], content=b"x").status_code == 400  # it is for reading only


def test_the_client_sends_and_stores_files(server: Server, tmp_path: Path) -> None:
    data = unlike(600_000)
    source, target = tmp_path / "report.pdf", tmp_path / "copy.pdf"
    source.write_bytes(data)
    with Client(server.url) as client:
        value = client.upload(source)
        assert (value["name"], value["sha256"]) == ("report.pdf", sha256(data))
        assert client.download(value, target) == target
        assert target.read_bytes() == data
        with pytest.raises(InvalidRequest, match=r"limits\.file_bytes"):
            client.upload(b"x" * 1_000_001, name="large")
        assert client.files()["used_bytes"] == len(data)
    assert names_in(tmp_path) == ["copy.pdf", "report.pdf"]


@pytest.mark.parametrize("cut", ["upload", "download"])
def test_the_client_continues_after_a_broken_connection(server: Server, tmp_path: Path, cut: str) -> None:
    data = unlike(900_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    if cut == "upload":
        with breaking(server.url, after_bytes=300_000) as proxy, Client(proxy.url) as client:
            value = client.upload(source)
    else:
        value = server.http.post("/files", params={"name": "source"}, content=data).json()
        with breaking(server.url, after_bytes=300_000, is_answer=True) as proxy, Client(proxy.url) as client:
            client.download(value, target)
    assert proxy.cuts == 1
    assert server.http.get(f"/files/{value['$file']}").content == data
    assert cut == "upload" or target.read_bytes() == data


async def test_the_async_client_sends_and_stores_files(server: Server, tmp_path: Path) -> None:
    data = unlike(600_000)
    async with AsyncClient(server.url) as client:
        value = await client.upload(data, name="a.bin")
        assert await client.download(value, tmp_path / "copy") == tmp_path / "copy"
        with pytest.raises(NotFound):
            await client.download("0" * 36, tmp_path / "other")
    assert (tmp_path / "copy").read_bytes() == data
    assert names_in(tmp_path) == ["copy"]


@pytest.mark.both_engines
def test_an_upload_outlives_the_server_that_it_began_with(tmp_path: Path) -> None:
    """The server is killed in the middle, and another one starts with its database and folder."""
    data, port, home = unlike(20_000_000), free_port(), tmp_path / "home"
    source = tmp_path / "source"
    source.write_bytes(data)
    found: list[Json] = []
    with new_database() as database_url, ExitStack() as servers:
        first = servers.enter_context(running_server(database_url, "--no-worker", port=port, data_dir=home))
        proxy = servers.enter_context(breaking(first.url, after_bytes=10_000_000, is_held=True))
        client = servers.enter_context(Client(proxy.url, resume_seconds=120))
        upload = threading.Thread(target=lambda: found.append(dict(client.upload(source))))
        upload.start()
        assert proxy.reached.wait(60)
        stored = (home / "files").glob
        until(lambda: sum(path.stat().st_size for path in stored("*/*")) > 5_000_000, seconds=60, what="its bytes")
        for process in first.processes():
            process.kill()
        first.process.wait(60)
        until(lambda: not first.processes(), seconds=60, what="the end of the first server")
        with running_server(database_url, "--no-worker", port=port, data_dir=home) as second:
            proxy.may_break.set()
            upload.join(120)
            (value,) = found
            assert second.http.get(f"/files/{value['$file']}").content == data
