"""Files in trees, on a real server with its worker: requests, commands and functions read and make them, and pruning removes them."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.receiver_of_files import Receiver, receiving
from tests.mail_server import MailServer, mail_server
from tests.servers import MODULES, Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]

SCRIPT = """#!/bin/sh
cat in/a.txt in/b.txt > out/both.txt
printf made > out/made.bin
"""
LINKS = """#!/bin/sh
case "$1" in
link) ln -s /etc/hostname out/stolen ;;
folder) mkdir out/inside ;;
pipe) mkfifo out/pipe ;;
swapped) rmdir out && ln -s /etc out ;;
esac
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name, text in (("join", SCRIPT), ("links", LINKS)):
        program = folder / name
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    with mail_server() as found:
        yield found


@pytest.fixture(scope="module")
def server(receiver: Receiver, programs: Path, mails: MailServer) -> Iterator[Server]:
    settings = {
        "AIPARTNERUPFLOW_EMAIL_HOST": "127.0.0.1",
        "AIPARTNERUPFLOW_EMAIL_PORT": str(mails.port),
        "AIPARTNERUPFLOW_EMAIL_SECURITY": "none",
        "AIPARTNERUPFLOW_EMAIL_SENDER": "apflow@example.com",
        "AIPARTNERUPFLOW_EMAIL_ALLOW": "*@example.com",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.functions_for_tests",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
        "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": str(receiver.port),
        "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": f"{programs}/join,{programs}/links",
        "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW_ANYWAY": f"{programs}/join,{programs}/links",
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": "20000000",
    }
    with new_database() as database_url, running_server(database_url, env=settings) as found:
        yield found


def uploaded(server: Server, data: bytes, name: str = "a.txt") -> Json:
    return dict(server.http.post("/files", params={"name": name}, content=data).json())


def content(server: Server, file: Json) -> bytes:
    found = server.http.get(f"/files/{file['$file']}")
    assert found.status_code == 200
    assert hashlib.sha256(found.content).hexdigest() == file["sha256"]
    return found.content


def run(server: Server, *tasks: Json, inputs: Json | None = None, status: str = "completed") -> dict[str, Json]:
    """The tasks of a finished run, by their names."""
    started = server.rpc("tasks.execute", {"tasks": list(tasks), **({"run_inputs": inputs} if inputs else {})})
    server.finished(started["task_id"])
    root = server.rpc("tasks.tree", {"task_id": started["task_id"]})
    found: dict[str, Json] = {}
    left = [root]
    while left:
        node = left.pop()
        found[node["id"]] = node
        left += node.get("children", [])
    if status == "completed":
        assert all(node["status"] == "completed" for node in found.values()), found
    return found


def task(executor: str, inputs: Json, *, task_id: str, **more: Any) -> Json:
    return {"id": f"{task_id}-{os.urandom(4).hex()}", "name": executor, "inputs": inputs, **more}


def only(found: dict[str, Json]) -> Json:
    (node,) = found.values()
    return node


@pytest.mark.both_engines
def test_a_request_sends_and_saves_files(server: Server, receiver: Receiver) -> None:
    data = os.urandom(3_000_000)
    report = uploaded(server, data, "report.pdf")
    sends = task(
        "rest_executor", {"url": receiver.url, "method": "PUT", "body_file": "{{run.inputs.doc}}"}, task_id="put"
    )
    run(server, sends, inputs={"doc": report})
    sent = receiver.last()
    assert (sent.body, sent.headers["content-type"], sent.headers["content-length"]) == (
        data,
        "application/pdf",
        str(len(data)),
    )
    form = {"title": "Rivers & seas", "doc": report, "more": [report, report]}
    run(server, task("rest_executor", {"url": receiver.url, "method": "POST", "multipart": form}, task_id="form"))
    parts = receiver.last().form()
    assert [(part.name, part.filename) for part in parts] == [
        ("title", None),
        ("doc", "report.pdf"),
        ("more", "report.pdf"),
        ("more", "report.pdf"),
    ]
    assert (parts[0].data, parts[1].data, parts[1].content_type) == (b"Rivers & seas", data, "application/pdf")
    saves = task("rest_executor", {"url": f"{receiver.url}/data/copy%20of.csv", "save": True}, task_id="get")
    receiver.answers(data, content_type="text/csv")
    result = only(run(server, saves))["result"]
    assert "body" not in result
    assert (result["file"]["name"], result["file"]["media_type"]) == ("copy of.csv", "text/csv")
    assert content(server, result["file"]) == data


def test_what_a_response_may_be_that_is_saved(server: Server, receiver: Receiver) -> None:
    """A bomb of a thousand times its size is stopped at the limit of a file, and nothing of it is left."""
    asks = {"url": f"{receiver.url}/../..%2F..%2Fetc%2Fpasswd", "save": True}
    receiver.answers(b"x" * 1_000_000, content_type="text/plain", is_gzipped=True)
    file = only(run(server, task("rest_executor", asks, task_id="zip")))["result"]["file"]
    assert (file["name"], file["bytes"]) == ("response", 1_000_000)
    known = {each["id"] for each in server.rpc("files.list", {})["files"]}
    receiver.answers(b"\0" * 200_000_000, content_type="text/plain", is_gzipped=True)
    failed = only(run(server, task("rest_executor", asks, task_id="bomb"), status="failed"))
    assert "limits.file_bytes" in failed["error"]
    receiver.answers(b"no", content_type="text/plain", status=404)
    failed = only(run(server, task("rest_executor", asks, task_id="gone"), status="failed"))
    assert "answered 404" in failed["error"]
    assert {each["id"] for each in server.rpc("files.list", {})["files"]} == known
    both = task("rest_executor", {"url": receiver.url, "method": "PUT", "json": 1, "body_file": file}, task_id="both")
    assert "Drop one" in only(run(server, both, status="failed"))["error"]


@pytest.mark.both_engines
def test_a_page_and_any_document_at_an_address_are_saved(server: Server, receiver: Receiver) -> None:
    page = b"<html><head><title>Rivers</title></head><body><article><p>The Rhine is long.</p></article></body></html>"
    asks = {"url": f"{receiver.url}/rivers.html", "save": True}
    receiver.answers(page, content_type="text/html", is_gzipped=True)
    result = only(run(server, task("scrape_executor", asks, task_id="page")))["result"]
    assert (result["title"], "Rhine" in result["text"], result["file"]["name"]) == ("Rivers", True, "rivers.html")
    assert content(server, result["file"]) == page
    document = b"%PDF-1.7" + os.urandom(5_000_000)
    receiver.answers(document, content_type="application/pdf")
    result = only(run(server, task("scrape_executor", asks, task_id="pdf")))["result"]
    assert (sorted(result), result["file"]["media_type"]) == (["file", "url"], "application/pdf")
    assert content(server, result["file"]) == document
    receiver.answers(b"no", content_type="application/pdf", status=404)
    assert "answered 404" in only(run(server, task("scrape_executor", asks, task_id="gone"), status="failed"))["error"]


def test_a_result_that_names_a_file_is_not_taken_from_the_cache(server: Server, receiver: Receiver) -> None:
    """The file goes with the tree of the task that made it."""
    receiver.answers(b"Rhine", content_type="text/plain")
    asks = {"url": f"{receiver.url}/cached.txt", "save": True}
    made = [
        only(run(server, task("rest_executor", asks, task_id="cached", params={"cache": "1h"})))["result"]["file"]
        for _ in range(2)
    ]
    assert made[0]["$file"] != made[1]["$file"]


@pytest.mark.both_engines
def test_a_command_gets_files_and_leaves_some(server: Server, programs: Path) -> None:
    first, second = uploaded(server, b"Rhine, "), uploaded(server, b"Nile")
    inputs = {"argv": [f"{programs}/join"], "files": {"a.txt": first, "b.txt": second}, "save": True}
    found = only(run(server, task("command_executor", inputs, task_id="join")))["result"]["files"]
    assert {name: content(server, file) for name, file in found.items()} == {
        "both.txt": b"Rhine, Nile",
        "made.bin": b"made",
    }
    inputs["files"] = {"../a.txt": first}
    failed = only(run(server, task("command_executor", inputs, task_id="path"), status="failed"))
    assert "without a path" in failed["error"]


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "swapped"])
def test_a_command_cannot_leave_what_is_no_file(server: Server, programs: Path, what: str) -> None:
    inputs = {"argv": [f"{programs}/links", what], "save": True}
    failed = only(run(server, task("command_executor", inputs, task_id=what), status="failed"))
    assert "cannot be saved" in failed["error"], failed


@pytest.mark.both_engines
@pytest.mark.parametrize("pool", ["process", "thread", "loop"])
def test_a_function_gets_files_and_returns_some(server: Server, pool: str) -> None:
    document = uploaded(server, b"Rhine, ", "rivers.txt")
    more = uploaded(server, b"Nile")
    call = {"function": "shout", "arguments": {"document": document, "others": [more]}}
    result = only(run(server, task("python_executor", call, task_id="shout", params={"pool": pool})))["result"]
    assert (result["name"], result["type"]) == ("rivers.txt", "text/plain")
    assert content(server, result["loud"]) == b"RHINE, NILE"
    soft = {"function": "shout_softly", "arguments": {"document": result["loud"]}}
    result = only(run(server, task("python_executor", soft, task_id="soft", params={"pool": pool})))["result"]
    assert (result["name"], content(server, result)) == ("softly.md", b"rhine, nile")


def test_a_file_that_an_attempt_did_not_complete_is_deleted(server: Server) -> None:
    known = {each["id"] for each in server.rpc("files.list", {})["files"]}
    call = {"function": "leave_a_file_open", "arguments": {}}
    assert only(run(server, task("python_executor", call, task_id="half"), status="failed"))["error"] == "that is all"
    left = {each["id"] for each in server.rpc("files.list", {})["files"]}
    assert left == known


@pytest.mark.both_engines
def test_files_pass_through_places_and_go_with_their_trees(server: Server, receiver: Receiver) -> None:
    receiver.answers(b"Rhine", content_type="text/plain")
    fetch = task("rest_executor", {"url": f"{receiver.url}/r.txt", "save": True}, task_id="fetch")
    loud = task(
        "python_executor",
        {"function": "shout", "arguments": {"document": f"{{{{{fetch['id']}.file}}}}"}},
        task_id="loud",
        parent_id="root",
        dependencies=[fetch["id"]],
    )
    found = run(server, {"id": "root", "name": "root"}, fetch | {"parent_id": "root"}, loud)
    made = [found[fetch["id"]]["result"]["file"], found[loud["id"]]["result"]["loud"]]
    assert content(server, made[1]) == b"RHINE"
    refused = server.call("files.delete", {"file_id": made[0]["$file"]})["error"]
    assert refused["data"]["in_the_way"] == ["tree:root"]
    server.rpc("tasks.delete", {"task_id": "root", "force": True})
    until(
        lambda: all(server.http.get(f"/files/{file['$file']}").status_code == 404 for file in made),
        seconds=90,
        what="the files of the deleted tree to go",
    )


def test_a_mail_has_files_with_their_names_and_types(server: Server, mails: MailServer) -> None:
    data = os.urandom(50_000)
    files = [uploaded(server, data, "Bericht ä.pdf"), uploaded(server, b"From: x\r\n\r\nhello", "a mail.eml")]
    given = {"to": "ops@example.com", "subject": "The report", "body": "It is ready.", "attachments": files}
    run(server, task("send_email_executor", given, task_id="mail"))
    mail = mails.received.pop()
    attached = list(mail.iter_attachments())
    assert [part.get_filename() for part in attached] == ["Bericht ä.pdf", "a mail.eml"]
    assert [part.get_content_type() for part in attached] == ["application/pdf", "application/octet-stream"]
    assert [part.get_content() for part in attached] == [data, b"From: x\r\n\r\nhello"]
    text = mail.get_body(["plain"])
    assert text is not None
    assert text.get_content().strip() == "It is ready."
    large = [uploaded(server, bytes(6 * 2**20), f"{number}.bin") for number in range(2)]
    refused = only(
        run(server, task("send_email_executor", given | {"attachments": large}, task_id="large"), status="failed")
    )
    assert "inputs.attachments: have more than 10,485,760 bytes together" in refused["error"]
    assert mails.received == []
