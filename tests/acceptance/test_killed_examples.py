"""The documented examples of living trees, all at once, on a server whose workers are killed in the middle of each of them."""

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.documents import text, texts
from tests.llm_formats import Says
from tests.llm_server import LlmServer, llm_server
from tests.servers import ROOT, Server, new_database, running_server, until

pytestmark = [pytest.mark.nightly, pytest.mark.both_engines]

Json = dict[str, Any]
KILLS: Final = 3
SUSPENDED: Final = "parked"
PASS_RESULTS: Final = "docs/how-to/pass-results.md"
GROW: Final = "docs/how-to/repeat-and-spawn.md"
APPROVALS: Final = "docs/how-to/approvals.md"
WAIT: Final = "docs/how-to/wait.md"
OWN_CODE: Final = "docs/how-to/bring-your-code.md"
MCP: Final = "docs/how-to/call-mcp-servers.md"
ANSWERS: Final = {
    "Publish the announcement?": "yes",
    "Send the offer of 1200 EUR?": "no",
    "Who pays for the chairs?": {"amount": 250, "department": "sales"},
}
DRAFT: Final = "Draft 3. Improve on “Draft 2. Improve on “Draft 1. Begin.””"
ARTICLES: Final = [{"text": f"Article {number}."} for number in range(7)]
SUMMARIES: Final = [
    "This is the built-in demo model: it understands nothing and costs nothing. "
    f"You asked: Summarise in one sentence: {article['text']}"
    for article in ARTICLES
]
ROUND: Final = ("draft", "review")
#: Page and heading; by the ids of the page, what results of tasks have, and the statuses of tasks that do not complete.
EXAMPLES: Final[list[tuple[str, str, Json, dict[str, str]]]] = [
    (PASS_RESULTS, "Pass results from task to task", {"order": {"total": 9}, "names": ["cup"]}, {}),
    (PASS_RESULTS, "Take one way or another", {"revise": {"text": "Once more."}}, {"publish": "skipped"}),
    (PASS_RESULTS, "Go on without a task", {"second-choice": {"text": "Instead."}}, {"first-choice": "failed"}),
    (GROW, "Run a template for each item of a list", {"report": {"count": 2}}, {"person": "skipped"}),
    (GROW, "Summarise each entry of a list", {"digest": SUMMARIES}, {"summary": "skipped"}),
    (GROW, "Run something again until it is good", {"publish": {"text": DRAFT}}, dict.fromkeys(ROUND, "skipped")),
    (GROW, "Poll until a job is done", {"report": {"rows": 42}}, {}),
    (GROW, "Add tasks that a result names", {"answer": {"is": "found"}}, {}),
    (GROW, "Let a model write the tasks", {"answer": {"results": {"work": {"demo": {}}}}}, {}),
    (GROW, "Run a tree of its own", {"letter": {"begins": "Hello Ada"}}, {}),
    ("docs/how-to/llm.md", "Call a model", {"fix": {"ticket": "Save crashes"}}, {"reply": "skipped"}),
    (APPROVALS, "Approvals: let a person decide", {"approve": {"answer": "yes"}}, {}),
    (APPROVALS, 'Take another branch at "no"', {"ask": {"answer": "no"}, "revise": {}}, {"send": "skipped"}),
    (APPROVALS, "Ask with a form", {"buy": {"limit": 250, "charge": "sales"}}, {}),
    (WAIT, "Wait until a time", {"pause": {"seconds": 3.0}}, {}),
    (WAIT, "Wait for an event", {"ship": {"order": "42", "paid_by": "card"}}, {}),
    ("docs/how-to/budgets.md", "Limit a run", {}, {"third": "failed"}),
    (OWN_CODE, "A LangGraph graph", {"bought": {"approved": "yes"}}, {}),
]
AGENTS: Final = "docs/how-to/agents.md"
TEA: Final = Says(tool_calls=(("stock_of", {"product": "tea"}),))
ORDER: Final = Says(tool_calls=(("order", {"product": "coffee"}),))
PACKETS: Final = Says(tool_calls=(("mcp_stock_packets", {"product": "tea"}),))
DELEGATE: Final = Says(tool_calls=(("flow_buyer", {"request": "Tea and coffee"}),))
#: Examples of the page on agents; what the provider says, and what is in the result of the root.
WITH_MODELS: Final[list[tuple[str, list[Says], str]]] = [
    ("Offer functions as tools", [TEA, Says(text="Perhaps.")], "Perhaps."),
    ("Offer tools of MCP servers", [PACKETS, Says(text="Perhaps.")], "Perhaps."),
    ("Ask a person first", [ORDER, Says(text="Soon.")], "Soon."),
    ("Limit what it may spend, and fall back to another model", [Says(status=401), TEA, Says(text="Yes.")], "Yes."),
]


@contextmanager
def web() -> Iterator[str]:
    """What the addresses of the examples lead to: articles, and a job that is done when it is asked about for the second time."""
    jobs: Iterator[Any] = iter([{"state": "running"}, {"state": "done", "rows": 42}])

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown: Any = ARTICLES if "articles" in self.path else next(jobs)
            body = json.dumps(shown).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(slots=True)
class Stage:
    """The server with its examples. `lines` is what tasks did; the first time that each is begun, it is held."""

    server: Server
    llm: LlmServer
    site: str
    lines: Path
    killed: set[str] = field(default_factory=set)

    def send(self, page: str, heading: str) -> Json:
        """Execute the example of the page, or the longest of several. Returns the reply."""
        block = max(texts(page, heading, "json"), key=len)
        for address in ("https://news.example.com", "https://jobs.example.com"):
            block = block.replace(address, self.site)
        reply: Json = self.server.rpc("tasks.execute", {"tasks": json.loads(block)})
        return reply

    def send_event(self, event_id: str, *, method: str) -> None:
        paid = {"event": "order.paid", "payload": {"order_id": "42", "method": method}, "id": event_id}
        self.server.rpc("events.send", paid)

    def times(self, what: str) -> Counter[str]:
        lines = self.lines.read_text().splitlines() if self.lines.exists() else []
        return Counter(line.partition(" ")[2] for line in lines if line.startswith(what))

    def in_hand(self) -> set[str]:
        """The tasks that are held by workers that live."""
        return {task_id for task_id, times in self.times("start").items() if times == 1} - self.killed

    def ended(self) -> list[str]:
        """The tasks that are over, also those that a kill interrupted for good: they have no end in `lines`."""
        ended = "SELECT id FROM tasks_task WHERE status NOT IN ('pending', 'in_progress')"
        return [task_id for (task_id,) in self.server.query(ended)]

    def answer(self) -> None:
        for question in self.server.rpc("questions.list", {})["questions"]:
            answer = ANSWERS.get(question["text"], "yes")
            self.server.rpc("tasks.answer", {"task_id": question["task_id"], "answer": answer})

    def is_stuck(self) -> bool:
        """Whether each run has a task in hand, or waits. Nothing else is under way: what was taken up again is over."""
        self.answer()
        held, over = self.in_hand(), {*self.times("end"), *self.times("park"), *self.ended()}
        if any(task_id not in held and task_id not in over for task_id in self.times("start")):
            return False
        working = {root for (root, owner) in self.open_runs() if owner != SUSPENDED}
        tasks = self.server.query("SELECT id, root_id FROM tasks_task WHERE status = 'in_progress'")
        return working <= {root for task_id, root in tasks if task_id in held}

    def is_over(self) -> bool:
        self.answer()
        return not self.open_runs()

    def parked(self) -> set[str]:
        """The tasks that waited, and were called again."""
        return set(self.times("park"))

    def open_runs(self) -> list[tuple[Any, ...]]:
        return self.server.query("SELECT root_id, lease_owner FROM tasks_run WHERE finished_at IS NULL")

    def kill_all(self) -> int:
        """Kill -9 every worker that has a run. Returns how many runs they had."""
        self.killed |= self.in_hand()
        owners = [owner for _, owner in self.open_runs() if owner and "/" in owner]
        for pid in {int(owner.split("/")[1]) for owner in owners}:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        return len(owners)

    def kill_until_over(self) -> None:
        """Kill the workers whenever each run has a task in hand, until all are over."""
        while not self.is_over():
            until(lambda: self.is_over() or self.is_stuck(), seconds=60, what="a task in hand", pause_seconds=0.1)
            self.kill_all()

    def tasks_of(self, root_id: str) -> dict[str, Json]:
        found, left = dict[str, Json](), [self.server.rpc("tasks.tree", {"task_id": root_id})]
        while left:
            task = left.pop()
            found[task["id"]] = task
            left += task["children"]
        return found


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with llm_server() as llm, web() as site, new_database() as database:
        llm.will(Says(text=json.dumps({"kind": "bug", "summary": "Save crashes"})))
        env = {
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.acceptance.held_tasks,shop",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "localhost",
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS": site.rpartition(":")[2],
            "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
            "OPENAI_API_KEY": "sk-operator-0123456789",
            "OPENAI_API_BASE": llm.openai_base,
            "AIPARTNERUPFLOW_EXECUTORS_MCP_SERVERS": json.dumps(
                {"stock": {"command": [sys.executable, str(tmp_path / "stock_server.py")]}}
            ),
            "AIPARTNERUPFLOW_EXECUTORS_LANGGRAPH_GRAPHS": "purchase=my_company.graphs:purchase",
        }
        (tmp_path / "held").touch()
        (tmp_path / "shop.py").write_text(text(AGENTS, "Offer functions as tools", "python"))
        (tmp_path / "stock_server.py").write_text(text(MCP, "Configure servers", "python"))
        (tmp_path / "my_company").mkdir()
        (tmp_path / "my_company" / "graphs.py").write_text(text(OWN_CODE, "A LangGraph graph", "python"))
        with running_server(database, data_dir=tmp_path, env=env) as server:
            yield Stage(server=server, llm=llm, site=site, lines=tmp_path / "lines")


@pytest.mark.timeout(900)
def test_the_examples_survive_a_kill_in_the_middle_of_each(stage: Stage) -> None:
    """Every task that was in hand is begun again, once; no decision is made again, and nothing is added or ends twice."""
    server = stage.server
    sent = [stage.send(page, heading) for page, heading, *_ in EXAMPLES]
    stage.send_event("evt_1", method="card")
    for number in range(KILLS):
        until(stage.is_stuck, seconds=60, what=f"tasks of every run in hand, after {number} kills", pause_seconds=0.1)
        stage.kill_all()
    stage.send_event("evt_2", method="cash")
    stage.lines.with_name("held").unlink()
    until(stage.is_over, seconds=60, what="the end of every run", pause_seconds=0.1)

    for (_, heading, results, statuses), reply in zip(EXAMPLES, sent, strict=True):
        tasks, ids = stage.tasks_of(reply["root_task_id"]), reply["ids"]
        expected = dict.fromkeys(tasks, "completed") | {ids[each]: status for each, status in statuses.items()}
        assert {task_id: task["status"] for task_id, task in tasks.items()} == expected, heading
        for task_id, result in results.items():
            found = tasks[ids[task_id]]["result"]
            assert (found | result if isinstance(result, dict) else result) == found, heading
    ends = "SELECT task_id FROM tasks_taskevent WHERE type IN ('task_completed', 'task_failed', 'task_skipped') GROUP BY task_id"
    assert server.query(f"{ends} HAVING count(*) > 1") == []
    assert server.query("SELECT run_id FROM tasks_taskevent GROUP BY run_id HAVING max(seq) <> count(*)") == []
    assert len(stage.killed) > len(EXAMPLES)
    assert {stage.times("start")[task_id] for task_id in stage.killed - stage.parked()} == {2}
    assert set(stage.times("end").values()) == {1}
    assert len(stage.llm.asked) == 1


@pytest.mark.timeout(900)
def test_the_agents_of_the_page_survive_a_kill_of_each_of_their_tasks(stage: Stage) -> None:
    """One after the other, since the provider answers in turn. A function that had not begun when its worker was killed is called:
    the model reads its result.
    """
    for heading, said, content in WITH_MODELS:
        stage.llm.forget()
        stage.llm.will(*said)
        root = stage.send(AGENTS, heading)["root_task_id"]
        stage.kill_until_over()
        tasks = stage.tasks_of(root)
        assert content in json.dumps(tasks[root]["result"]), (heading, [task["error"] for task in tasks.values()])
        assert len(stage.llm.asked) == len(said), heading
        (read,) = [each["content"] for each in stage.llm.asked[-1].body["messages"] if each["role"] == "tool"]
        assert read in ("12", "ordered 1 of coffee", '{"packets":12}'), heading
        assert {task_id for task_id, task in tasks.items() if task["status"] != "skipped"} <= stage.killed, heading
    flow, manager = texts(AGENTS, "Let agents call other agents", "json")
    stage.server.rpc("flows.save", json.loads(flow))
    stage.llm.forget()
    stage.llm.will(DELEGATE, TEA, Says(text="There is tea."), Says(text="All is ready."))
    root = stage.server.rpc("tasks.execute", {"tasks": json.loads(manager)})["root_task_id"]
    stage.kill_until_over()
    tasks = stage.tasks_of(root)
    assert tasks[root]["result"]["content"] == "All is ready."
    assert stage.llm.asked[-1].last_message == "There is tea."
    assert (len(stage.llm.asked), tasks.keys() - stage.killed) == (4, set())
    for _ in range(2):
        stage.send("docs/how-to/llm.md", "Continue a conversation")
        stage.kill_until_over()
    assert len(stage.server.query("SELECT id FROM tasks_conversationturn")) == 2
