"""docs/how-to/cache.md: its task takes its own result the second time, and its commands show and clear that."""

import json

import pytest

from tests.documents import text, texts
from tests.servers import new_database, running_server
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/cache.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell) -> None:
    (shell.folder / "cached.json").write_text(text(PAGE, "Try it", "json"))
    (shell.folder / "vectors.py").write_text(text(PAGE, "See which tasks may have it", "python"))
    tools = {"AIPARTNERUPFLOW_EXECUTORS_LLM_TOOLS": "echo_executor"}
    env = tools | {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "vectors", "PYTHONPATH": str(shell.folder)}
    with new_database() as database, running_server(database, env=env) as server:

        def typed(command: str) -> str:
            return shell.run(command, AIPARTNERUPFLOW_URL=server.url)

        (runs,) = texts(PAGE, "Try it", "sh")
        assert '"executor":"llm_executor","results":1' in typed(runs).replace(" ", "")
        first, second = sorted(server.rpc("tasks.list", {}), key=lambda task: str(task["created_at"]))
        assert (second["cached_from"]["task_id"], second["attempt"], second["token_usage"]) == (first["id"], 0, None)
        terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": "200", "AIPARTNERUPFLOW_URL": server.url}
        tree = shell.run(f"aipartnerupflow tasks tree {second['id']}", given="", code=0, **terminal)
        assert "from the cache" in tree
        assert f"with the result of task '{first['id']}'" in typed(f"aipartnerupflow explain {second['id']}")

        function = {"name": "python_executor", "inputs": {"function": "embed", "arguments": {"text": "a b"}}}
        keyed = json.loads(text(PAGE, "Say how long, and what counts", "json"))
        keyed["cache"]["key"] = ["inputs.arguments.text"]
        for name in ("embedded", "again"):
            server.rpc("tasks.execute", {"tasks": [{**function, "id": name, "params": keyed}]})
            assert server.finished(name)[-1]["status"] == "completed"
        assert server.rpc("tasks.get", {"task_id": "again"})["cached_from"]["task_id"] == "embedded"

        clerk = json.loads(text(PAGE, "Agents", "json"))
        for name in ("clerk", "next"):
            server.rpc("tasks.execute", {"tasks": [clerk | {"id": name}]})
            assert server.finished(name)[-1]["status"] == "completed"
        assert server.rpc("tasks.get", {"task_id": "next"})["token_usage"] is None

        (clears,) = texts(PAGE, "See and clear what is stored", "sh")
        typed(clears)
        left = server.rpc("cache.list", {})["executors"]
        assert [row["executor"] for row in left] == ["python_executor"]
