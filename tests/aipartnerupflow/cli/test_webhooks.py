"""The webhooks of a run are listed and deleted: by JSON-RPC, REST, the Python client and the command line."""

from collections.abc import Callable
from typing import Any

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said
from tests.documents import text
from tests.servers import Server

TOKEN = "a-token-that-no-reply-shows"
HOOK = {"url": "https://hooks.example.com/apflow", "token": TOKEN, "headers": {"Authorization": f"Bearer {TOKEN}"}}
MOST = 10
"""The default of `webhooks.max_per_run`."""


def run_with_webhook(server: Server) -> tuple[str, str]:
    """The ids of the run and of its webhook."""
    params = {"tasks": [{"name": "echo_executor", "inputs": {"text": "hi"}}], "webhook_config": HOOK}
    reply = server.rpc("tasks.execute", params)
    (run,) = server.rpc("runs.list", {"task_id": reply["task_id"]})["runs"]
    return run["id"], reply["webhook"]["id"]


def test_a_webhook_makes_room_for_another(server: Server, client: Client) -> None:
    run_id, webhook_id = run_with_webhook(server)
    for number in range(MOST - 1):
        _add(server, run_id, number)
    refused = _add(server, run_id, MOST)["error"]
    assert "webhooks.list and webhooks.delete" in refused["message"]
    listed = client.webhooks(run_id)["webhooks"]
    assert [each["kind"] for each in listed] == ["native"] + ["a2a"] * (MOST - 1)
    assert (listed[0]["id"], listed[0]["url"], listed[0]["method"]) == (webhook_id, HOOK["url"], "POST")
    assert (listed[0]["state"], listed[0]["last_seq"]) == ("open", 0)
    reply = server.http.get(f"/api/runs/{run_id}/webhooks/")
    assert len(reply.json()["webhooks"]) == MOST
    assert TOKEN not in reply.text
    assert client.delete_webhook(webhook_id) == {"webhook_id": webhook_id, "deleted": True}
    assert server.http.delete(f"/api/webhooks/{webhook_id}/").json() == {"webhook_id": webhook_id, "deleted": False}
    assert "error" not in _add(server, run_id, MOST)
    assert webhook_id not in server.http.get(f"/api/runs/{run_id}/webhooks/").text


def test_the_commands_of_the_page_list_and_delete(server: Server, cli: Callable[..., Said]) -> None:
    run_id, webhook_id = run_with_webhook(server)
    page = text("docs/how-to/webhooks.md", "List and delete webhooks", "sh")
    listing, deleting = page.replace("RUN_ID", run_id).replace("WEBHOOK_ID", webhook_id).splitlines()
    (listed,) = cli(*listing.split()[1:]).lines
    assert (listed["id"], listed["run_id"]) == (webhook_id, run_id)
    deleted = [cli(*deleting.split()[1:]).json["deleted"] for _ in range(2)]
    assert deleted == [True, False]
    assert cli(*listing.split()[1:]).lines == []
    assert cli("webhooks", "list", "no-such-run").code != 0


def _add(server: Server, run_id: str, number: int) -> Any:
    config = {"taskId": run_id, "id": f"hook-{number}", "url": HOOK["url"]}
    return server.call("CreateTaskPushNotificationConfig", config, path="/")
