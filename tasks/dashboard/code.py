"""Code that runs a stored tree, in several languages."""

import shlex
from typing import Any, Final

import orjson

COPY: Final = {"copy_execution": True, "copy_children": True}


def as_code(task_id: str, *, base_url: str, of_copy: bool, with_token: bool) -> dict[str, str]:
    """Return language → code that executes the task. `base_url` has no trailing slash.

    `of_copy`: run a copy, because the tree has completed. `with_token`: read a token or API key from the environment.
    """
    params = {"task_id": task_id} | (COPY if of_copy else {})
    return {
        "curl": _curl(params, base_url, with_token=with_token),
        "CLI": _cli(task_id, base_url, of_copy=of_copy, with_token=with_token),
        "Python": _python(params, base_url, with_token=with_token),
        "JavaScript": _javascript(params, base_url, with_token=with_token),
    }


def _curl(params: dict[str, Any], base_url: str, *, with_token: bool) -> str:
    body = _json({"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": params})
    lines = [
        f"curl {shlex.quote(f'{base_url}/tasks')}",
        *(['-H "Authorization: Bearer $TOKEN"'] if with_token else []),
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(body)}",
    ]
    return " \\\n  ".join(lines)


def _cli(task_id: str, base_url: str, *, of_copy: bool, with_token: bool) -> str:
    server = f"--url {shlex.quote(base_url)}" + (' --token "$TOKEN"' if with_token else "")
    if not of_copy:
        return f"aipartnerupflow tasks run {shlex.quote(task_id)} --watch {server}"
    copy = f"aipartnerupflow tasks copy {shlex.quote(task_id)} --mode full {server}"
    return f'copy=$({copy} | jq -r .id)\naipartnerupflow tasks run "$copy" --watch {server}'


def _python(params: dict[str, Any], base_url: str, *, with_token: bool) -> str:
    arguments = ", ".join(f"{name}={value if value is True else _json(value)}" for name, value in params.items())
    token = ', token=os.environ["TOKEN"]' if with_token else ""
    return PYTHON.format(
        imports="import os\n\n" if with_token else "", client=_json(base_url) + token, arguments=arguments
    )


def _javascript(params: dict[str, Any], base_url: str, *, with_token: bool) -> str:
    token = ", Authorization: `Bearer ${process.env.TOKEN}`" if with_token else ""
    return JAVASCRIPT.format(url=_json(f"{base_url}/tasks"), token=token, params=_json(params))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


PYTHON = """{imports}from aipartnerupflow.client import Client

with Client({client}) as client:
    started = client.execute({arguments})
    for event in client.follow(started["root_task_id"]):
        print(event["type"], event["task_id"], event["progress"])
"""

JAVASCRIPT = """const reply = await fetch({url}, {{
  method: "POST",
  headers: {{"Content-Type": "application/json"{token}}},
  body: JSON.stringify({{
    jsonrpc: "2.0", id: 1, method: "tasks.execute",
    params: {params},
  }}),
}});
console.log((await reply.json()).result);
"""
