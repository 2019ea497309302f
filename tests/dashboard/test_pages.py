"""The pages as HTTP: who sees what, who may do what, and that another's tree looks like none."""

import json
import re
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.admin.conftest import PASSWORD, csrf_token
from tests.browser import new_page
from tests.dashboard.conftest import As
from tests.servers import Server, until

READ: Final = ("tasks", "panel", "head", "growth", "value/result", "logs", "events/next")
POSTED: Final = ("run", "restart", "cancel", "delete", "answer")
LLM_KEY: Final = "sk-proj-canary-0123456789abcdef"


def post(session: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    """As a form does, with its token."""
    token = csrf_token(session.get("/ui/settings/").text)
    return session.post(path, data={"csrfmiddlewaretoken": token, **fields})


def made(session: httpx.Client, name: str, **task: Any) -> str:
    """A new tree of one task: its id."""
    tree = f'[{{"name": "{name}", "schemas": {{"method": "echo_executor"}}}}]'
    response = post(session, "/ui/new/tree/", tree=tree, then=task.get("then", "store"))
    assert response.status_code == 302, response.text
    return response.headers["Location"].removeprefix("/ui/tasks/")


def test_who_is_not_logged_in_is_sent_to_the_login_and_back(guarded: Server) -> None:
    for path in ("/", "/ui/tasks/x?y=1", "/ui/inbox/", "/ui/settings/", "/ui/new/", "/ui/events/list"):
        response = guarded.http.get(path, headers={"Accept": "text/html"})
        assert response.status_code == 302
        assert response.headers["Location"] == f"/login/?next={quote(path)}"


def test_a_token_opens_no_page(guarded: Server) -> None:
    login = guarded.http.post("/auth/login", json={"username": "alice", "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {login['access']}", "Accept": "text/html"}
    assert guarded.http.get("/ui/settings/", headers=headers).status_code == 302


def test_a_session_opens_no_programs_door(as_: As) -> None:
    request = {"jsonrpc": "2.0", "method": "tasks.list", "params": {}, "id": 1}
    for path in ("/tasks", "/", "/system"):
        assert as_("alice").post(path, json=request).status_code == 401
    assert as_("alice").get("/api/tasks/").status_code == 401


def test_programs_that_read_the_front_are_told_that_it_takes_posts(guarded: Server) -> None:
    response = guarded.http.get("/", headers={"Accept": "application/json"})
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_anothers_tree_looks_like_a_missing_one(as_: As) -> None:
    task_id = made(as_("alice"), "Private")
    page(as_("bob"), "/")  # it shows the message that an earlier test may have left
    for place in READ:
        theirs, none = (as_("bob").get(f"/ui/{place}/{each}") for each in (task_id, "no-such-id"))
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(task_id, "no-such-id") == none.text
    for verb in POSTED:
        theirs, none = (post(as_("bob"), f"/ui/{verb}/{each}", answer="1") for each in (task_id, "no-such-id"))
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(task_id, "no-such-id") == none.text
    assert as_("bob").get(f"/ui/new/tree/?copy={task_id}").status_code == 404
    assert "Private" not in as_("bob").get("/ui/tasks/").text
    assert as_("alice").get(f"/ui/tasks/{task_id}").status_code == 200


def test_an_admin_sees_all_trees_and_narrows_them_by_owner(as_: As) -> None:
    made(as_("alice"), "Of alice")
    made(as_("bob"), "Of bob")
    everything = page(as_("root"), "/ui/tasks/")
    assert "Of alice" in everything
    assert "Of bob" in everything
    narrowed = page(as_("root"), "/ui/tasks/?owner=bob")
    assert "Of alice" not in narrowed
    assert "Of bob" in narrowed
    assert 'name="owner"' not in page(as_("alice"), "/ui/tasks/")


def test_a_viewer_reads_and_changes_nothing(as_: As) -> None:
    assert 'href="/ui/new/"' in page(as_("alice"), "/")
    assert 'href="/ui/new/"' not in page(as_("vera"), "/")
    assert as_("vera").get("/ui/new/").status_code == 403
    for verb in POSTED:
        assert post(as_("vera"), f"/ui/{verb}/anything").status_code == 403
    assert post(as_("vera"), "/ui/settings/llm-keys/", provider="openai", key=LLM_KEY).status_code == 403


def test_a_post_without_the_forms_token_is_refused(as_: As) -> None:
    task_id = made(as_("alice"), "Guarded")
    for verb in POSTED:
        assert as_("alice").post(f"/ui/{verb}/{task_id}").status_code == 403
    assert as_("alice").get(f"/ui/run/{task_id}").status_code == 405


def test_llm_keys_are_kept_and_never_shown(as_: As) -> None:
    assert post(as_("alice"), "/ui/settings/llm-keys/", provider="openai", key=LLM_KEY).status_code == 302
    shown = page(as_("alice"), "/ui/settings/")
    assert f"…{LLM_KEY[-4:]}" in shown
    assert LLM_KEY[:-4] not in shown
    assert LLM_KEY[-4:] not in page(as_("bob"), "/ui/settings/")
    refused = post(as_("alice"), "/ui/settings/llm-keys/", provider="opneai", key=LLM_KEY)
    assert (refused.status_code, LLM_KEY in refused.text) == (422, False)
    assert "Did you mean" in refused.text
    assert post(as_("alice"), "/ui/settings/llm-keys/delete/", provider="openai").status_code == 302
    assert f"…{LLM_KEY[-4:]}" not in page(as_("alice"), "/ui/settings/")


def test_administrators_see_the_workers_and_the_queue(as_: As) -> None:
    tree = json.dumps([{"name": "Slow", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 600}}])
    started = post(as_("alice"), "/ui/new/tree/", tree=tree, then="run")
    task_id = started.headers["Location"].removeprefix("/ui/tasks/")
    users = re.compile(
        r"<td>alice</td><td></td>\s*<td class=\"num\">1</td>\s*<td class=\"num\">0</td>\s*<td class=\"num minor\">75 %</td>"
    )
    until(lambda: users.search(page(as_("root"), "/ui/workers/")) is not None, seconds=60, what="the run on the page")
    shown = page(as_("root"), "/ui/workers/")
    assert "<td>working</td>" in shown
    assert re.search(r"<dt>In the queue</dt>\s*<dd>0</dd>", shown)
    assert "/ui/workers/" not in page(as_("alice"), "/ui/settings/")
    assert as_("alice").get("/ui/workers/").status_code == as_("vera").get("/ui/workers/").status_code == 403
    assert post(as_("alice"), f"/ui/cancel/{task_id}").status_code == 302


def test_notifications_are_stored_and_their_key_is_shown_once(as_: As) -> None:
    hook = "https://hooks.example.com/apflow"
    made = post(as_("alice"), "/ui/settings/notifications/", name="on-call", to=hook)
    assert (made.status_code, "whsec_" in made.text) == (200, True)
    shown = page(as_("alice"), "/ui/settings/")
    assert hook in shown
    assert "whsec_" not in shown
    assert f'<td class="mono">{hook}' not in page(as_("bob"), "/ui/settings/")
    for given, why in (
        ({"name": "", "to": hook}, "Enter a name"),
        ({"name": "a", "to": "ops@example.com"}, "no mail server"),
        ({"name": "a", "to": "ftp://a.example"}, "url"),
        ({"name": "a", "to": hook, "flow": "no-such-flow"}, "no-such-flow"),
    ):
        refused = post(as_("alice"), "/ui/settings/notifications/", **given)
        assert (refused.status_code, why in refused.text) == (422, True), refused.text
    assert post(as_("vera"), "/ui/settings/notifications/", name="on-call", to=hook).status_code == 403
    assert post(as_("bob"), "/ui/settings/notifications/test/", name="on-call").status_code == 422
    assert post(as_("vera"), "/ui/settings/notifications/test/", name="on-call").status_code == 403
    assert post(as_("bob"), "/ui/settings/notifications/delete/", name="on-call").status_code == 302
    assert hook in page(as_("alice"), "/ui/settings/")
    assert post(as_("alice"), "/ui/settings/notifications/delete/", name="on-call").status_code == 302
    assert f'<td class="mono">{hook}' not in page(as_("alice"), "/ui/settings/")


def test_filters_of_a_list_are_saved_under_a_name_for_their_user_only(as_: As) -> None:
    given = {"place": "runs", "name": "Failed at night", "query": "status=failed&tag=night&cursor=x&more=1"}
    saved = post(as_("vera"), "/ui/views/", **given)
    assert (saved.status_code, saved.headers["Location"]) == (302, "/ui/runs/?days=7&status=failed&tag=night")
    for address in ("/ui/runs/", "/ui/runs/?days=7&status=failed&tag=night"):
        shown = page(as_("vera"), address)
        assert 'href="?days=7&amp;status=failed&amp;tag=night"' in shown
        assert ("Delete this view" in shown) == ("?" in address)
    assert "Failed at night" not in page(as_("vera"), "/ui/tasks/") + page(as_("root"), "/ui/runs/")
    for wrong, why in (
        ({"place": "flows"}, "place"),
        ({"name": " "}, "name"),
        ({"query": "status=dubious"}, "status"),
        ({"query": "q=" + "x" * 4_096}, "query"),
    ):
        refused = post(as_("vera"), "/ui/views/", **given | wrong)
        assert (refused.status_code, why in refused.text) == (400, True), refused.text
    assert post(as_("vera"), "/ui/views/", place="trees", name="Mine", query="q=report").headers["Location"] == "/ui/tasks/?q=report"  # fmt: skip
    assert 'href="?q=report"' in page(as_("vera"), "/ui/tasks/")
    post(as_("root"), "/ui/views/delete/", **given)
    assert "Failed at night" in page(as_("vera"), "/ui/runs/")
    post(as_("vera"), "/ui/views/delete/", **given)
    assert "Failed at night" not in page(as_("vera"), "/ui/runs/").split("</ul>")[-1]


def test_secrets_are_kept_and_never_shown(as_: As) -> None:
    assert post(as_("alice"), "/ui/settings/secrets/", name="token", value=LLM_KEY, hosts="a.example, *.b.example", inputs="headers, json").status_code == 302  # fmt: skip
    shown = page(as_("alice"), "/ui/settings/")
    kept = "<td>a.example, *.b.example</td><td>headers, json</td>"
    assert kept in shown
    assert (
        "token" not in page(as_("bob"), "/ui/settings/").split('id="secrets"')[1].split("</table>")[0].split("<form")[0]
    )
    assert post(as_("alice"), "/ui/settings/secrets/", name="token", value=f"new {LLM_KEY}").status_code == 302
    assert kept in page(as_("alice"), "/ui/settings/"), "a new value keeps the hosts and inputs"
    for name, value, hosts, inputs in (
        ("a-b", LLM_KEY, "", ""),
        ("a", "short", "", ""),
        ("a", LLM_KEY, "https://c.example", ""),
        ("a", LLM_KEY, "c.example", "json.key"),
        ("a", "", "", ""),
    ):
        refused = post(as_("alice"), "/ui/settings/secrets/", name=name, value=value, hosts=hosts, inputs=inputs)
        assert (refused.status_code, LLM_KEY in refused.text) == (422, False)
    assert LLM_KEY not in shown + refused.text
    assert post(as_("vera"), "/ui/settings/secrets/", name="token", value=LLM_KEY).status_code == 403
    assert post(as_("bob"), "/ui/settings/secrets/delete/", name="token").status_code == 302
    assert kept in page(as_("alice"), "/ui/settings/")
    assert post(as_("alice"), "/ui/settings/secrets/delete/", name="token").status_code == 302
    assert kept not in page(as_("alice"), "/ui/settings/")


def test_an_api_key_is_shown_once_works_and_is_revoked(as_: As, guarded: Server) -> None:
    response = post(as_("alice"), "/ui/settings/api-keys/", name="nightly", days="30", read_only="on")
    found = re.search(r"<code>(apf_[\w-]+)</code>", response.text)
    assert found
    key, shown = found[1], page(as_("alice"), "/ui/settings/")
    assert "nightly" in shown
    assert key not in shown
    headers = {"Authorization": f"Bearer {key}"}
    assert guarded.call("tasks.count", {}, **headers)["result"]["total"] >= 0
    prefix = key[:12]
    assert post(as_("bob"), "/ui/settings/api-keys/revoke/", prefix=prefix).status_code == 422
    assert post(as_("alice"), "/ui/settings/api-keys/revoke/", prefix=prefix).status_code == 302
    assert guarded.http.post("/tasks", json={}, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "days",
    ["0", "-1", "3651", "9999", "30d", "1.5", " 30", "+30", "²", "٣", "9" * 5000, None],
    ids=lambda days: str(days)[:9],
)
def test_no_key_is_made_when_its_end_is_not_understood(as_: As, days: str | None) -> None:
    fields = {} if days is None else {"days": days}
    response = post(as_("alice"), "/ui/settings/api-keys/", name="misread", **fields)
    assert response.status_code == 422
    assert '<span class="problem">Enter 1 to 3650 days' in response.text
    assert "misread" not in page(as_("alice"), "/ui/settings/")


@pytest.mark.parametrize(("days", "ends"), [("1", True), ("3650", True), ("", False)])
def test_only_a_key_without_days_has_no_end(as_: As, days: str, ends: bool) -> None:
    name = f"days-{days or 'none'}"
    assert post(as_("alice"), "/ui/settings/api-keys/", name=name, days=days).status_code == 200
    (row,) = re.findall(rf"<tr><td>{name}</td>.*", page(as_("alice"), "/ui/settings/"))
    assert re.search(r"<td>\d+ \w+ 20\d\d</td>", row) if ends else row.count(">never<") == 2


def test_what_a_task_asks_is_answered_by_its_owner(as_: As, guarded: Server) -> None:
    tree = '[{"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Really?", "options": ["yes", "no"]}}]'
    location = post(as_("alice"), "/ui/new/tree/", tree=tree, then="run").headers["Location"]
    task_id = location.removeprefix("/ui/tasks/")
    until_page(as_("alice"), "/ui/inbox/", "Really?")
    assert "Really?" not in page(as_("bob"), "/ui/inbox/")
    assert "data-questions>1</span>" in page(as_("alice"), "/ui/settings/")
    assert "needs an answer" in page(as_("alice"), "/ui/tasks/")
    assert post(as_("bob"), f"/ui/answer/{task_id}", option="yes").status_code == 404
    assert post(as_("alice"), f"/ui/answer/{task_id}", option="perhaps").status_code == 409
    assert post(as_("alice"), f"/ui/answer/{task_id}", option="yes", comment="at last").status_code == 302
    until_page(as_("alice"), location, "at last")


def test_a_question_names_its_tree_and_shows_what_is_decided_upon(as_: As, guarded: Server) -> None:
    tasks = [
        {"id": "all", "name": "Monthly report"},
        {"id": "draft", "name": "Write the draft", "parent_id": "all", "schemas": {"method": "echo_executor"}}
        | {"inputs": {"text": "Sales rose by 4 %."}},
        {"id": "ask", "name": "Ask", "parent_id": "all", "dependencies": ["draft"]}
        | {"schemas": {"method": "approval_executor"}, "inputs": {"question": "Send it?", "options": ["yes", "no"]}},
    ]
    location = post(as_("alice"), "/ui/new/tree/", tree=json.dumps(tasks), then="run").headers["Location"]
    until_page(as_("alice"), "/ui/inbox/", "Send it?")
    (card,) = [each for each in page(as_("alice"), "/ui/inbox/").split("<article") if "Send it?" in each]
    assert re.search(rf'in <a class="link" href="{location}">Monthly report</a>', card)
    assert re.search(r"<h3>Write the draft</h3>.*Sales rose by 4 %\.", card, re.DOTALL)
    assert post(as_("alice"), f"/ui/cancel/{location.removeprefix('/ui/tasks/')}").status_code == 302


FORM: Final = {
    "properties": {
        "amount": {"type": "number", "title": "Amount in EUR", "minimum": 0},
        "plan": {"type": "string", "enum": ["small", "large"]},
        "express": {"type": "boolean", "default": False},
        "note": {"type": "string"},
        "receipt": {"type": "string", "format": "email"},
        "by": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
    },
    "required": ["amount", "plan"],
}


def test_a_form_is_shown_and_keeps_what_was_filled_in_until_it_fits(as_: As, guarded: Server) -> None:
    inputs = {"question": "Who pays?", "schema": FORM}
    tree = json.dumps([{"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs}])
    location = post(as_("alice"), "/ui/new/tree/", tree=tree, then="run").headers["Location"]
    task_id = location.removeprefix("/ui/tasks/")
    until_page(as_("alice"), "/ui/inbox/", "Who pays?")
    for path in ("/ui/inbox/", location):
        shown = page(as_("alice"), path)
        assert "Amount in EUR" in shown
        assert re.search(r'<input name="in.amount" value="" .*required', shown)
        assert re.search(r"<option selected>false</option>", shown)
        assert '<input type="email" name="in.receipt"' in shown
        assert '<input type="date" name="in.by"' in shown
        assert '<input name="in.at" value="" placeholder="2027-01-31T09:00:00+01:00"' in shown
    address = f"/ui/answer/{task_id}"
    wrong: dict[str, str] = {"in.amount": "many", "in.plan": "large", "in.note": "Soon", "in.express": ""}
    refused = post(as_("alice"), address, **wrong)
    assert refused.status_code == 400
    assert "This must be a number" in refused.text
    assert re.search(r'name="in.amount" value="many".* aria-invalid="true"', refused.text)
    assert 'name="in.note" value="Soon"' in refused.text
    assert "<option selected>large</option>" in refused.text
    refused = post(as_("alice"), address, **wrong | {"in.amount": "-1"})
    assert (refused.status_code, "the value is less than the minimum of 0" in refused.text) == (400, True)
    refused = post(as_("alice"), address, **wrong | {"in.amount": "1", "in.receipt": "alice"})
    assert (refused.status_code, "must be an e-mail address" in refused.text) == (400, True)
    assert post(as_("bob"), address, **{"in.amount": "1", "in.plan": "small"}).status_code == 404
    assert post(as_("alice"), address, **wrong | {"in.amount": "250.5"}).status_code == 302
    until_page(as_("alice"), location, "250.5")


def test_the_page_behind_a_link_shows_the_form(as_: As, guarded: Server) -> None:
    headers = {
        "Authorization": f"Bearer {guarded.http.post('/auth/login', json={'username': 'alice', 'password': PASSWORD}).json()['access']}"
    }
    tree = [
        {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Who pays?", "schema": FORM}}
    ]
    task_id = guarded.http.post("/api/tasks/", json={"tasks": tree, "execute": True}, headers=headers).json()["id"]
    address = f"/api/tasks/{task_id}/"

    def question() -> Any:
        return guarded.http.get(f"{address}detail/", headers=headers).json()["question"]

    until(question, seconds=60, what="the question")
    assert question()["schema"] == FORM
    refused = guarded.http.post(f"{address}answer/", json={"answer": {"amount": 1, "plan": "none"}}, headers=headers)
    assert refused.status_code == 400
    assert [each["field"] for each in refused.json()["error"]["data"]] == ["answer.plan"]
    link = question()["answer_url"]
    assert "Amount in EUR" in guarded.http.get(link).text
    assert "in.note" in guarded.http.get(link).text
    refused = guarded.http.post(link, data={"in.amount": "1", "in.note": "Please"})
    assert (refused.status_code, "plan: is required" in refused.text) == (400, True)
    assert 'value="Please"' in refused.text
    done = guarded.http.post(link, data={"in.amount": "1", "in.plan": "small", "comment": "By mail"})
    assert (done.status_code, "Thank you" in done.text) == (200, True)
    until(
        lambda: guarded.http.get(address, headers=headers).json()["status"] == "completed", seconds=60, what="the end"
    )
    assert guarded.http.get(address, headers=headers).json()["result"] == {
        "amount": 1,
        "plan": "small",
        "express": False,
    }


def test_an_assignee_sees_the_question_and_nothing_else_of_the_tree(as_: As, guarded: Server) -> None:
    def headers_of(name: str) -> dict[str, str]:
        login = guarded.http.post("/auth/login", json={"username": name, "password": PASSWORD}).json()
        return {"Authorization": f"Bearer {login['access']}"}

    alice, bob = headers_of("alice"), headers_of("bob")
    inputs = {"question": "Who pays?", "schema": FORM, "assignees": ["bob"]}
    task = {"name": "A secret plan", "schemas": {"method": "approval_executor"}, "inputs": inputs}
    task_id = guarded.rpc("tasks.execute", {"tasks": [task]}, **alice)["task_id"]

    def listed(headers: dict[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = guarded.rpc("questions.list", {}, **headers)["questions"]
        return [question for question in found if question["task_id"] == task_id]

    until(lambda: listed(bob), seconds=60, what="the question to bob")
    (question,) = listed(bob)
    assert question.keys() == {
        *("id", "task_id", "text", "options", "schema", "assignees", "asked_at", "expires_at", "answer_url")
    }
    assert (question["text"], question["schema"], question["assignees"]) == ("Who pays?", FORM, ["bob"])
    (same,) = guarded.http.get("/api/questions/", headers=bob).json()["questions"]
    assert same | {"answer_url": None} == question | {"answer_url": None}
    assert [each["answer_url"] for each in listed(alice)] == [None]
    for method in ("tasks.get", "tasks.detail", "tasks.tree", "tasks.cancel"):
        replies = [
            guarded.http.post("/tasks", json=called(method, each), headers=bob).text for each in (task_id, "none")
        ]
        assert replies[0].replace(task_id, "none") == replies[1]
    assert as_("bob").get(f"/ui/tasks/{task_id}").status_code == 404
    inbox = page(as_("bob"), "/ui/inbox/")
    assert "Question to you" in inbox
    assert "Amount in EUR" in inbox
    assert "A secret plan" not in inbox
    assert "data-questions>1</span>" in inbox
    assert "For bob" in page(as_("alice"), f"/ui/tasks/{task_id}")
    assert "in.amount" not in page(as_("alice"), f"/ui/tasks/{task_id}")
    form = {"in.amount": "3", "in.plan": "small"}
    assert post(as_("alice"), f"/ui/answer/{task_id}", **form).status_code == 409
    refused = guarded.call("tasks.answer", {"task_id": task_id, "answer": {"amount": 3, "plan": "small"}}, **alice)
    assert (refused["error"]["code"], "Only its assignees" in refused["error"]["message"]) == (-32004, True)
    assert post(as_("bob"), f"/ui/answer/{task_id}", **form | {"in.amount": "x"}).status_code == 400
    given = {"task_id": task_id, "answer": {"amount": 3, "plan": "small"}}
    answered = guarded.rpc("tasks.answer", given, path="/", **bob)
    assert answered["kind"] == "message"
    assert answered["parts"][0]["data"]["by"] == "bob"
    assert "secret plan" not in json.dumps(answered)
    until(
        lambda: guarded.rpc("tasks.get", {"task_id": task_id}, **alice)["status"] == "completed", seconds=60, what="it"
    )


def called(method: str, task_id: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"task_id": task_id}}


def test_code_to_run_a_tree_says_where_the_token_goes(as_: As) -> None:
    task_id = made(as_("alice"), "Coded")
    shown = page(as_("alice"), f"/ui/tasks/{task_id}")
    assert shown.count("TOKEN") == 5  # once for people, and in four languages
    assert "Authorization: Bearer $TOKEN" in shown


@pytest.mark.parametrize("width", [390, 1280])
def test_the_way_out_is_in_sight(width: int, browser: Browser, guarded: Server) -> None:
    with new_page(browser, viewport={"width": width, "height": 800}) as window:
        window.goto(f"{guarded.url}/login/")
        window.get_by_label("Username").fill("alice")
        window.get_by_label("Password").fill(PASSWORD)
        window.get_by_role("button", name="Log in").click()
        for name in ("Tasks", "Inbox", "Executors", "Settings", "Log out"):
            expect(window.get_by_role("link", name=re.compile(f"^{name}"))).to_be_in_viewport(ratio=0.9)
        window.get_by_role("link", name="Log out").click()
        window.get_by_role("button", name="Log out").click()
        expect(window.get_by_role("heading", name="Log in")).to_be_visible()


def test_every_page_forbids_scripts_from_elsewhere_and_is_not_kept(as_: As) -> None:
    for path in ("/", "/ui/executors/", "/ui/new/", "/ui/new/tree/", "/ui/settings/", "/ui/inbox/"):
        response = as_("alice").get(path, headers={"Accept": "text/html"})
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self';" in f"{policy};"
        assert "unsafe" not in policy
        assert "no-store" in response.headers["Cache-Control"]
        assert not re.search(r"<script(?![^>]*(?:src=|application/json))|\son\w+=|\sstyle=", response.text)


@pytest.mark.parametrize(
    "query", ["status=odd", "order=name", "q=a%00b", "cursor=odd", "cursor=%00", "owner=%00", "executor=%00"]
)
def test_a_filter_that_cannot_be_is_refused_with_a_page(query: str, as_: As) -> None:
    response = as_("alice").get(f"/ui/tasks/?{query}")
    assert response.status_code == 400
    assert query.split("=")[0] in response.text


def test_no_page_takes_the_character_that_no_database_holds(as_: As) -> None:
    for place in READ:
        assert as_("alice").get(f"/ui/{place}/a%00b").status_code == 404
    assert as_("alice").get("/ui/events/list?id=a%00b").status_code == 400
    assert post(as_("alice"), "/ui/new/", executor="echo_executor", name="a\0b").status_code == 400
    assert post(as_("alice"), "/ui/new/tree/", tree='[{"name": "a\\u0000b"}]').status_code == 422
    assert post(as_("alice"), "/ui/settings/llm-keys/", provider="a\0b", key="k").status_code == 400


def page(session: httpx.Client, path: str) -> str:
    response = session.get(path, headers={"Accept": "text/html"})
    assert response.status_code == 200, response.text
    return response.text


def until_page(session: httpx.Client, path: str, text: str) -> None:
    """Wait for the page to say so."""
    until(lambda: text in page(session, path), seconds=60, what=f"{text!r} on {path}")
