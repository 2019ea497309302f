"""docs/how-to/summarise-documents.md: ten PDF files are summarised by page and the report is sent, through three kills of the workers."""

import json
from contextlib import suppress
from typing import Any, Final

import psutil
import pytest

from tests.acceptance.test_files import content, uploaded
from tests.mail_server import mail_server
from tests.pdf import pdf_of
from tests.servers import ROOT, Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines
Json = dict[str, Any]
DOCUMENTS: Final = 10
KILLS: Final = (4, 9, 14)
"""The workers are killed when so many of the 20 pages have a summary."""
SUMMARY: Final = (
    "This is the built-in demo model: it understands nothing and costs nothing. You asked: Summarise in one sentence: "
)


def kill_workers(server: Server) -> None:
    owners = server.query("SELECT lease_owner FROM tasks_run WHERE finished_at IS NULL")
    for (owner,) in owners:
        if owner and "/" in owner:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(owner.split("/")[1])).kill()


def summaries(server: Server) -> int:
    counted = "SELECT COUNT(*) FROM tasks_task WHERE executor_id = 'llm_executor' AND status = 'completed'"
    return int(server.query(counted)[0][0])


def test_documents_are_summarised_through_kills_and_the_report_is_sent_once() -> None:
    flow = json.loads((ROOT / "docs/examples/own-code/digest.json").read_text())
    with mail_server() as mails, new_database() as database:
        env = {
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": "digest",
            "AIPARTNERUPFLOW_EMAIL_HOST": "127.0.0.1",
            "AIPARTNERUPFLOW_EMAIL_PORT": str(mails.port),
            "AIPARTNERUPFLOW_EMAIL_SECURITY": "none",
            "AIPARTNERUPFLOW_EMAIL_SENDER": "apflow@example.com",
            "AIPARTNERUPFLOW_EMAIL_ALLOW": "*@example.com",
            "PYTHONPATH": str(ROOT / "docs/examples/own-code"),
        }
        with running_server(database, env=env) as server:
            pace = {"match": {"executor": "llm_executor"}, "requests_per_second": 4}
            server.rpc("limits.set", {"name": "pace", "limit": pace})
            server.rpc("flows.save", flow)
            texts = {f"river-{number}.pdf": [f"River {number}.", f"Sea {number}."] for number in range(DOCUMENTS)}
            documents = [uploaded(server, pdf_of(*pages), name) for name, pages in texts.items()]
            run = server.rpc("flows.run", {"name": "digest", "inputs": {"documents": documents, "to": "a@example.com"}})
            for count in KILLS:
                until(lambda count=count: summaries(server) >= count, seconds=120, what=f"{count} summaries")  # type: ignore[misc]
                kill_workers(server)
            assert server.finished(run["task_id"])[-1]["status"] == "completed"
            (mail,) = mails.received
            (attached,) = mail.iter_attachments()
            lines = [
                f"**{name}, page {n}**: {SUMMARY}{text}"
                for name, pages in texts.items()
                for n, text in enumerate(pages, 1)
            ]
            report = attached.get_content()
            assert (attached.get_filename(), report.splitlines()[2:]) == (
                "summaries.md",
                [f"- {line}" for line in lines],
            )
            listed = {each["name"]: each for each in server.rpc("files.list", {})["files"]}
            assert listed.keys() == {"summaries.md", *texts}
            made = listed["summaries.md"]
            assert content(server, made | {"$file": made["id"]}).decode() == report
            server.rpc("tasks.delete", {"task_id": run["task_id"], "force": True})
            until(lambda: "summaries.md" not in str(server.rpc("files.list", {})), seconds=90, what="the report to go")
            for document in documents:
                server.rpc("files.delete", {"file_id": document["$file"]})
            assert server.rpc("files.list", {})["files"] == []
