"""What the admin's pages show: everything as text, and no secret."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser

from tests.admin.conftest import Session, act
from tests.browser import PATIENCE_MS
from tests.servers import Json, Server, until

HOSTILE = "\"'><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">{{ 7*7 }}"
CANARY = "sk-proj-canary-admin-0123456789abcdef"
PASSPHRASE = "looks like no key at all"
LISTS = """
    tasks/task tasks/task/?rows=all tasks/run tasks/taskevent tasks/question tasks/workerprocess tasks/webhook tasks/webhookdelivery auth/user
    accounts/apikey llmkeys/llmkey llmkeys/namedsecret tasks/usage tasks/schedule tasks/firing
""".split()


def step(task_id: str, parent_id: str | None = None, **inputs: Any) -> Json:
    return {"id": task_id, "parent_id": parent_id, "name": task_id, "inputs": inputs} | {
        "schemas": {"method": "scripted_executor"}
    }


def calling(task_id: str, **inputs: Any) -> Json:
    return {"id": task_id, "name": "rest_executor", "inputs": {"url": "https://api.example.com", **inputs}}


def crawled(session: Session) -> dict[str, str]:
    """Every list, and the pages of the first rows on it, by address."""
    pages = {path: session.get(f"/admin/{path}", follow_redirects=True).text for path in LISTS}
    for text in list(pages.values()):
        for path in dict.fromkeys(re.findall(r'href="(/admin/\w+/\w+/[^"?]+/change/)', text)[:10]):
            pages.setdefault(path, session.get(path).text)
    return pages


@pytest.fixture(scope="module")
def hostile_tree(admin_server: Server, sessions: Callable[[str], Session]) -> Json:
    """A finished tree whose every text tries to be more than text."""
    tasks = [{**step(HOSTILE, says=HOSTILE, then=HOSTILE), "name": HOSTILE}]
    token = admin_server.http.post("/auth/login", json={"username": "olga", "password": "open sesame 42"}).json()
    bearer = {"Authorization": f"Bearer {token['access']}"}
    done: Json = admin_server.rpc("tasks.execute", {"tasks": tasks, "wait": True}, **bearer)
    return done


def test_hostile_texts_are_text_on_every_page(hostile_tree: Json, admin: Session) -> None:
    pages = crawled(admin)
    assert [path for path, text in pages.items() if HOSTILE in unescape(text)], "it is shown nowhere"
    assert [path for path, text in pages.items() if "<script>document" in text or "<img src=x" in text] == []


def test_a_browser_runs_nothing_of_them(hostile_tree: Json, admin: Session, browser: Browser) -> None:
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": "sessionid", "value": admin.cookies["sessionid"], "url": str(admin.base_url)}])
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for path in ("/admin/tasks/task/?rows=all", "/admin/tasks/taskevent/"):
            page.goto(f"{admin.base_url}{path}")
            page.locator("#result_list tbody a").first.click()
            page.wait_for_load_state("networkidle")
            assert page.title() != "broken"
        assert said == []


def test_no_page_shows_a_secret(admin_server: Server, admin: Session, rpc: Callable[..., Any]) -> None:
    tree = {"tasks": [step("secretive")], "wait": True}
    hook = {"url": f"https://hooks.example.com/{CANARY}?key={CANARY}", "token": CANARY, "headers": {"X-Key": CANARY}}
    rpc("tasks.execute", {**tree, "webhook_config": hook}, **{"X-LLM-API-KEY": CANARY})
    rpc("tasks.create", {"tasks": [step("later")]}, **{"X-LLM-API-KEY": CANARY})
    ask(admin_server, rpc, "noted", memo=CANARY)
    rpc("tasks.create", {"tasks": [calling("caller", auth={"bearer": PASSPHRASE})]})
    rpc("tasks.create", {"tasks": [calling("header", headers={"Authorization": PASSPHRASE})]})
    reply = admin_server.http.post("/auth/login", json={"username": "olga", "password": "open sesame 42"}).json()
    system = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "config.llm_key.set",
        "params": {"provider": "openai", "api_key": CANARY},
    }
    stored = admin_server.http.post("/system", json=system, headers={"Authorization": f"Bearer {reply['access']}"})
    assert "error" not in stored.json(), stored.text
    secret = {"value": CANARY, "allow_hosts": ["hosts.example.com"]}
    token = {"Authorization": f"Bearer {reply['access']}"}
    admin_server.http.put("/api/secrets/of_olga/", json=secret, headers=token).raise_for_status()
    pages = crawled(admin)
    assert "https://hooks.example.com/…" in pages["tasks/webhook"]
    assert f"…{CANARY[-4:]}" in pages["llmkeys/llmkey"]
    assert {"of_olga", "hosts.example.com"} <= set(
        re.findall(r"of_olga|hosts\.example\.com", pages["llmkeys/namedsecret"])
    )
    hashes = [text for (text,) in admin_server.query("SELECT password FROM auth_user")]
    sealed = [text for (text,) in admin_server.query("SELECT sealed FROM llmkeys_llmkey")]
    sealed += [text for (text,) in admin_server.query("SELECT sealed FROM llmkeys_namedsecret")]
    assert any("https://api.example.com" in text and "Authorization" in text for text in pages.values())
    for secret in (CANARY, PASSPHRASE, *hashes, *sealed):
        assert [path for path, text in pages.items() if secret in text] == []


def test_a_question_is_found_with_its_answer(admin_server: Server, admin: Session, rpc: Callable[..., Any]) -> None:
    question_id = ask(admin_server, rpc, "asked", question=f"Publish {HOSTILE}?", options=["yes", "no"])
    (path,) = set(re.findall(r'href="(/admin/tasks/question/[^"?]+/change/)', listed(admin, "question", "asked")))
    assert f"Publish {HOSTILE}?" in unescape(admin.get(path).text)
    rpc("tasks.answer", {"task_id": "asked", "answer": "yes", "comment": "as agreed"})
    until(lambda: status_of(rpc, "asked") == "completed", seconds=60, what="the end")
    page = admin.get(path).text
    assert {'"yes"', "as agreed", "olga"} <= set(re.findall(r'"yes"|as agreed|olga', unescape(page)))
    (run_id,) = admin_server.query("SELECT run_id FROM tasks_question WHERE id = %s", question_id)[0]
    for link in ("/admin/tasks/task/asked/change/", f"/admin/tasks/run/{run_id}/change/", "/ui/tasks/asked"):
        assert f'href="{link}"' in page
    for term in (question_id, run_id):
        assert path in listed(admin, "question", term)
    filtered = {query: admin.get(f"/admin/tasks/question/?closed_at__isempty={query}").text for query in (0, 1)}
    assert [query for query, text in filtered.items() if path in text] == [0]


def test_execute_and_cancel_are_the_services(admin_server: Server, admin: Session, rpc: Callable[..., Any]) -> None:
    rpc("tasks.create", {"tasks": [step("by-admin", seconds=600, steps=300)]})
    assert "is queued" in act(admin, "execute", "by-admin").text
    assert "is already running" in act(admin, "execute", "by-admin").text
    until(lambda: status_of(rpc, "by-admin") == "in_progress", seconds=60, what="the start")
    assert re.search("The cancellation is requested|Cancelled by root", act(admin, "cancel", "by-admin").text)
    until(lambda: status_of(rpc, "by-admin") == "cancelled", seconds=60, what="the cancel")
    assert rpc("tasks.get", {"task_id": "by-admin"})["error"] == "Cancelled by root in the admin"
    assert rpc("tasks.get", {"task_id": "by-admin"})["user_id"] == "olga"
    history = admin.get("/admin/tasks/task/by-admin/history/", follow_redirects=True)
    assert "Run: is queued" in history.text


def test_a_button_on_a_tasks_page_leads_back_to_it(admin: Session, rpc: Callable[..., Any]) -> None:
    rpc("tasks.create", {"tasks": [step("with/slash")]})
    page = act(admin, "execute", "with/slash", page_of="with/slash")
    assert (page.status_code, str(page.url).endswith("/change/")) == (200, True)
    assert "is queued" in page.text


def test_too_many_rows_at_once_are_refused(admin: Session, rpc: Callable[..., Any]) -> None:
    steps = [f"example-fan-out-{number}" for number in range(101)]
    assert "Select at most 100" in act(admin, "cancel", *steps).text
    assert status_of(rpc, "example-fan-out-0", name="root") in ("pending", "completed")


def test_what_is_searched_for_is_found_by_id_owner_and_name(admin: Session, rpc: Callable[..., Any]) -> None:
    rpc("tasks.create", {"tasks": [step("needle"), step("needle-below", "needle")]})
    found = {term: names_of(admin, f"tasks/task/?q={term}") for term in ("needle", "needle-below", "eedle-bel")}
    assert found == {
        "needle": ["needle-below", "needle"],
        "needle-below": ["needle-below"],
        "eedle-bel": ["needle-below"],
    }
    assert "needle" in names_of(admin, "tasks/task/?q=olga")
    assert "needle-below" not in names_of(admin, "tasks/task/")
    run = rpc("tasks.execute", {"task_id": "needle", "wait": True})
    assert run["status"] == "completed"
    events = admin.get("/admin/tasks/taskevent/?q=needle").text
    assert set(re.findall(r"field-type[^>]*>(\w+)<", events)) >= {"task_start", "task_completed", "final"}
    assert len(re.findall("<tr", admin.get("/admin/tasks/run/?q=needle").text)) == 2


def test_json_is_shown_as_indented_text(admin: Session, rpc: Callable[..., Any]) -> None:
    inputs = {"says": "ü <b>", "nested": {"list": [1, 2]}}
    rpc("tasks.create", {"tasks": [{"id": "with-json", "name": "x", "inputs": inputs}]})
    shown = admin.get("/admin/tasks/task/with-json/change/", follow_redirects=True).text
    assert orjson.dumps(inputs, option=orjson.OPT_INDENT_2).decode() in unescape(shown)


def ask(server: Server, rpc: Callable[..., Any], task_id: str, *, memo: str = "", **inputs: Any) -> str:
    """The id of what a task asks, and waits for. `memo`: what its executor notes with it."""
    task = {"id": task_id, "name": task_id, "schemas": {"method": "approval_executor"}}
    rpc("tasks.execute", {"tasks": [task | {"inputs": {"question": "Well?"} | inputs}]})
    look = "SELECT id FROM tasks_question WHERE task_id = %s"
    (question_id,) = until(lambda: server.query(look, task_id), seconds=60, what="the question")[0]
    if memo:
        server.query("UPDATE tasks_question SET memo = %s WHERE id = %s", orjson.dumps(memo).decode(), question_id)
    return str(question_id)


def listed(session: Session, model: str, term: str) -> str:
    return session.get(f"/admin/tasks/{model}/?q={term}").text


def names_of(admin: Session, path: str) -> list[str]:
    return re.findall(r"field-name[^>]*><a[^>]*>([^<]*)</a>", admin.get(f"/admin/{path}").text)


def status_of(rpc: Callable[..., Any], task_id: str, **who: str) -> Any:
    return rpc("tasks.get", {"task_id": task_id}, **who)["status"]
