"""docs/how-to/summarise-documents.md: its commands summarise ten PDF files by page and send the report, through three kills of the workers."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Final

import psutil
import pytest
import yaml

from tests.acceptance.test_files import content
from tests.documents import text, texts
from tests.mail_server import mail_server
from tests.pdf import pdf_of
from tests.s3_server import running_bucket
from tests.servers import Server, new_database, running_server, until
from tests.shell import new_shell

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
PAGE: Final = "docs/how-to/summarise-documents.md"
DOCUMENTS: Final = 10
KILLS: Final = (4, 9, 14)
"""The workers are killed when so many of the 20 pages have a summary."""
SUMMARY: Final = (
    "This is the built-in demo model: it understands nothing and costs nothing. You asked: Summarise in one sentence: "
)
PACE: Final = {"match": {"executor": "llm_executor"}, "requests_per_second": 4}


def kill_workers(server: Server) -> None:
    owners = server.query("SELECT lease_owner FROM tasks_run WHERE finished_at IS NULL")
    for (owner,) in owners:
        if owner and "/" in owner:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(owner.split("/")[1])).kill()


def summaries(server: Server) -> int:
    counted = "SELECT COUNT(*) FROM tasks_task WHERE executor_id = 'llm_executor' AND status = 'completed'"
    return int(server.query(counted)[0][0])


def names_in(server: Server) -> set[str]:
    return {file["name"] for file in server.rpc("files.list", {})["files"]}


@pytest.mark.parametrize("store", ["folder", "bucket"])
def test_documents_are_summarised_through_kills_and_the_report_is_sent_once(
    store: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shell = new_shell(tmp_path_factory)
    (shell.folder / "digest.py").write_text(text(PAGE, "Write the two functions", "python"))
    (shell.folder / "digest.json").write_text(text(PAGE, "Save the flow", "json"))
    documents = {f"river-{number}.pdf": [f"River {number}.", f"Sea {number}."] for number in range(DOCUMENTS)}
    for name, pages in documents.items():
        (shell.folder / name).write_bytes(pdf_of(*pages))
    (run,) = texts(PAGE, "Run it", "sh")
    files = " ".join(f"--input documents=@{name}" for name in documents)
    run = re.sub(r"(--input documents=\S+ )+", f"{files} ", run)
    with mail_server() as mails, new_database() as database, ExitStack() as stores:
        config = yaml.safe_load(text(PAGE, "Start the server", "yaml"))
        config["email"] |= {"host": "127.0.0.1", "port": mails.port, "security": "none"}
        (shell.folder / "config.yaml").write_text(yaml.safe_dump(config))
        env = {
            "AIPARTNERUPFLOW_CONFIG": str(shell.folder / "config.yaml"),
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": ",".join(config["executors"]["modules"]),  # not those of the tests
            "PYTHONPATH": str(shell.folder),
        }
        if store == "bucket":
            env |= stores.enter_context(running_bucket()).settings
        with running_server(database, env=env) as server, ThreadPoolExecutor(1) as typing:
            server.rpc("limits.set", {"name": "pace", "limit": PACE})
            shell.run(text(PAGE, "Save the flow", "sh"), AIPARTNERUPFLOW_URL=server.url)
            typed = typing.submit(shell.run, run, AIPARTNERUPFLOW_URL=server.url)
            for count in KILLS:
                until(lambda: summaries(server) >= count, seconds=120, what=f"{count} summaries")  # noqa: B023
                kill_workers(server)
            typed.result(120)
            (mail,) = mails.received
            (attached,) = mail.iter_attachments()
            lines = [
                f"- **{name}, page {number}**: {SUMMARY}{page}"
                for name, pages in documents.items()
                for number, page in enumerate(pages, 1)
            ]
            report = attached.get_content()
            assert (attached.get_filename(), report.splitlines()[2:]) == ("summaries.md", lines)
            assert names_in(server) == {"summaries.md", *documents}
            ((run_id, root_id),) = server.query("SELECT id, root_id FROM tasks_run WHERE finished_at IS NOT NULL")
            shell.run(text(PAGE, "Get the report", "sh").replace("RUN_ID", str(run_id)), AIPARTNERUPFLOW_URL=server.url)
            assert (shell.folder / "reports" / "summaries.md").read_text() == report
            (made,) = [file for file in server.rpc("files.list", {})["files"] if file["name"] == "summaries.md"]
            assert content(server, made | {"$file": made["id"]}).decode() == report
            server.rpc("tasks.delete", {"task_id": root_id, "force": True})
            until(lambda: names_in(server) == {*documents}, seconds=90, what="the report to go")
            for file in server.rpc("files.list", {})["files"]:
                server.rpc("files.delete", {"file_id": file["id"]})
            assert names_in(server) == set()
