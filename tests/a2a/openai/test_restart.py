"""A stream whose web process is killed continues on the next one."""

from pathlib import Path

import pytest

from tests.a2a.openai.conftest import openai
from tests.a2a.openai.wire import saved, task
from tests.servers import new_database, running_server

pytestmark = pytest.mark.both_engines


def test_a_stream_continues_after_the_server_was_killed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waits = task("waits", "scripted_executor", inputs={"gate": str(gate)})
    asks = task("ask", "approval_executor", inputs={"question": "Publish?"}, dependencies=["waits"])
    with new_database() as database:
        with running_server(database) as server:
            flow = saved(server, task("root", None), waits | {"parent_id": "root"}, asks | {"parent_id": "root"})
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            with client.responses.create(model=flow, stream=True, background=True) as stream:
                seen = [next(stream), next(stream)]
                server.kill(server.pid)
            server.assert_gone(within_seconds=60)
        gate.touch()
        with running_server(database) as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            response_id, last = seen[0].response.id, seen[-1].sequence_number
            with client.responses.retrieve(response_id, stream=True, starting_after=last) as stream:
                rest = list(stream)
            assert [each.sequence_number for each in rest] == list(range(last + 1, last + 1 + len(rest)))
            assert rest[-1].type == "response.completed"
            assert rest[-1].response.output[-1].name == "ask"
