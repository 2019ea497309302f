"""What the front end is sent by a server without a default executor, without an LLM key, or after a restart."""

from uuid import uuid4

import pytest

from tests.a2a.agui.front_end import FrontEnd, question, said, text_in, tree, types
from tests.servers import Server, new_database, running_server

pytestmark = pytest.mark.both_engines_nightly


def test_without_a_default_executor_the_answer_is_a_list_of_the_skills(open_server: Server) -> None:
    events = FrontEnd(http=open_server.http).run(said("hello"))
    assert types(events) == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert "I run tasks" in text_in(events)


def test_a_missing_key_is_an_error_that_says_where_to_store_it(open_server: Server) -> None:
    events = FrontEnd(http=open_server.http).run(said('llm_executor: {"prompt": "hi", "model": "mistral/large"}'))
    assert types(events) == ["RUN_STARTED", "RUN_ERROR"]
    assert events[-1]["code"] == "llm_key_required"
    assert "config.llm_key.set" in events[-1]["message"]


def test_an_interrupt_is_answered_after_a_restart() -> None:
    thread = f"thread-{uuid4()}"
    first = {"threadId": thread, "runId": "first"} | tree(question())
    with new_database() as database:
        with running_server(database) as server:
            before = FrontEnd(http=server.http).run(**first)
        with running_server(database) as server:
            front_end = FrontEnd(http=server.http)
            assert front_end.run(**first) == before, "the same request is the same run"
            (interrupt,) = before[-1]["outcome"]["interrupts"]
            answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": "yes"}
            assert front_end.run(threadId=thread, resume=[answer])[-1]["outcome"] == {"type": "success"}
