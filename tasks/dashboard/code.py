"""How to run a stored tree again from elsewhere: the same request in several languages."""

import shlex

import orjson


def as_code(task_id: str, *, base_url: str) -> dict[str, str]:
    """Language → code that executes the task. `base_url` is the server's, without a slash at its end."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"task_id": task_id}}
    body = orjson.dumps(request).decode()
    url, literal = f"{base_url}/tasks", orjson.dumps(task_id).decode()
    return {
        "curl": f"curl {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}",
        "CLI": f"aipartnerupflow tasks run {shlex.quote(task_id)} --watch --url {shlex.quote(base_url)}",
        "Python": PYTHON.format(base_url=orjson.dumps(base_url).decode(), task_id=literal),
        "JavaScript": JAVASCRIPT.format(url=orjson.dumps(url).decode(), task_id=literal),
    }


PYTHON = """from aipartnerupflow.client import Client

with Client({base_url}) as client:
    for event in client.stream(task_id={task_id}):
        print(event["type"], event["task_id"], event["progress"])
"""

JAVASCRIPT = """const reply = await fetch({url}, {{
  method: "POST",
  headers: {{"Content-Type": "application/json"}},
  body: JSON.stringify({{
    jsonrpc: "2.0", id: 1, method: "tasks.execute",
    params: {{task_id: {task_id}}},
  }}),
}});
console.log((await reply.json()).result);
"""
