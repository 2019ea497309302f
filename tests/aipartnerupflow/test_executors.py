"""The public package for plug-ins: what a test's context does, and the older import paths."""

from importlib import import_module

import pytest

from aipartnerupflow import a2a, executors
from aipartnerupflow.executors import ExecutorError, Reply
from aipartnerupflow.executors.testing import context


def test_a_context_for_tests_records_what_it_is_given() -> None:
    attempt = context()
    attempt.report(0.5, "half way")
    attempt.log("a line")
    attempt.spent({"total_tokens": 3})
    assert (attempt.reports, attempt.logs, attempt.usages) == ([(0.5, "half way")], ["a line"], [{"total_tokens": 3}])
    assert context().reports == []


def test_a_context_for_tests_is_what_its_arguments_say() -> None:
    reply = Reply(answer="yes", by="alice")
    attempt = context(task_id="t", attempt=2, params={"a": 1}, reply=reply, is_forced=True)
    assert (attempt.root_task_id, attempt.attempt) == ("t", 2)
    assert attempt.idempotency_key == context(task_id="t").idempotency_key != context(task_id="u").idempotency_key
    assert (attempt.params, attempt.reply, attempt.is_forced(), attempt.is_given_up()) == ({"a": 1}, reply, True, False)


async def test_a_context_for_tests_has_no_network() -> None:
    with pytest.raises(ExecutorError, match="GET was not sent: this context has no network"):
        await context().fetch("GET", "https://example.com/")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("tasks.executors.base", ("Context", "Executor", "ExecutorError", "Json", "Parked", "Reply", "Stopped")),
        ("tasks.executors.threads", ("on_a_thread",)),
        ("tasks.executors.plugins", ("python_function",)),
        ("tasks.executors.http.safe_http", ("HttpResponse",)),
    ],
)
def test_older_import_paths_of_executors_have_the_same_objects(module: str, names: tuple[str, ...]) -> None:
    older = import_module(module)
    assert [name for name in names if getattr(older, name) is not getattr(executors, name)] == []


def test_the_older_import_path_of_message_handlers_has_the_same_objects() -> None:
    older = import_module("a2a.protocol.message_handler")
    names = ("Ask", "AskForKey", "Decision", "Incoming", "Reject", "Reply", "RunFlow", "RunStored", "RunTree")
    assert [name for name in names if getattr(older, name) is not getattr(a2a, name)] == []
