"""The registry of executors: the built-in ones, imported on first use, and those of plug-ins."""

from collections.abc import Iterable, Mapping, Set
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from aipartnerupflow.executors import Executor, Json
from tasks.executors.plugins import plugins
from tasks.executors.workflows import STEP
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.extras import how_to_install, is_installed

EXECUTORS: Mapping[str, str] = MappingProxyType(
    {
        "a2a_executor": "tasks.executors.a2a_client.executor.A2a",
        "aggregate_results_executor": "tasks.executors.aggregate.AggregateResults",
        "apflow_api_executor": "tasks.executors.apflow_api.executor.ApflowApi",
        "batch_crewai_executor": "tasks.executors.crewai.executor.BatchCrewAi",
        "approval_executor": "tasks.executors.approval.Approval",
        "command_executor": "tasks.executors.command.executor.Command",
        "crewai_executor": "tasks.executors.crewai.executor.CrewAi",
        "docker_executor": "tasks.executors.docker.executor.Docker",
        "echo_executor": "tasks.executors.echo.Echo",
        "evaluate_executor": "tasks.executors.evaluate.Evaluate",
        "compare_executor": "tasks.executors.compare.Compare",
        "event_executor": "tasks.executors.event.Event",
        "generate_executor": "tasks.executors.generate.Generate",
        "langgraph_executor": "tasks.executors.langgraph.executor.LangGraph",
        "grpc_executor": "tasks.executors.grpc.executor.Grpc",
        "llm_executor": "tasks.executors.llm.executor.Llm",
        "mcp_executor": "tasks.executors.mcp.executor.Mcp",
        "python_executor": "tasks.executors.python.Python",
        "rest_executor": "tasks.executors.http.rest.Rest",
        "run_tree_executor": "tasks.executors.run_tree.RunTree",
        "scrape_executor": "tasks.executors.scrape.executor.Scrape",
        "send_email_executor": "tasks.executors.email.executor.SendEmail",
        "sleep_executor": "tasks.executors.sleep.Sleep",
        "ssh_executor": "tasks.executors.ssh.executor.Ssh",
        "transform_executor": "tasks.executors.transform.Transform",
        "system_info_executor": "tasks.executors.system_info.SystemInfo",
        "wait_executor": "tasks.executors.wait.Wait",
        "websocket_executor": "tasks.executors.websocket.executor.WebSocket",
    }
)

INTERNAL: Mapping[str, str] = MappingProxyType({STEP: "tasks.executors.python.StepTask"})
"""The executors whose tasks a worker adds: nobody is offered them, and no request may name one."""

#: The extra that an executor needs, so that it is known without importing the executor.
NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "batch_crewai_executor": "crewai",
        "crewai_executor": "crewai",
        "generate_executor": "llm",
        "langgraph_executor": "langgraph",
        "llm_executor": "llm",
        "grpc_executor": "grpc",
        "scrape_executor": "scrape",
        "ssh_executor": "ssh",
    }
)


@cache
def executor_ids() -> frozenset[str]:
    """Return the ids of all enabled executors. Imports plug-ins, but no built-in executor.

    Raises ImproperlyConfigured if a plug-in is invalid or uses the id of a built-in executor, or if `executors.config`,
    `pools.executors`, `mcp.tools` or `limits.shared` names one that does not exist.
    """
    if taken := sorted((EXECUTORS.keys() | INTERNAL.keys()) & plugins().executors.keys()):
        cls = plugins().executors[taken[0]]
        raise ImproperlyConfigured(
            f"Executor {cls.__module__}.{cls.__qualname__}: the id '{taken[0]}' belongs to a built-in executor. Choose another."
        )
    limits = (settings.APFLOW.limits.shared or {}).values()
    named = {
        "executors.config": settings.APFLOW.executors.config or (),
        "pools.executors": settings.APFLOW.pools.executors or (),
        "mcp.tools": settings.APFLOW.mcp.tools or (),
        "limits.shared": [limit["match"]["executor"] for limit in limits if "executor" in limit.get("match", ())],
    }
    for setting, executors in named.items():
        if problem := missing_executor(executors):
            raise ImproperlyConfigured(f"{setting}: {problem}")
    return frozenset(_known()) - disabled_executors().keys()


def missing_executor(named: Iterable[str]) -> str | None:
    """Return the sentence about the first of these executors that does not exist; one that is not enabled exists."""
    known = _known()
    unknown = sorted(set(named) - known - INTERNAL.keys())
    if not unknown:
        return None
    close = get_close_matches(unknown[0], sorted(known), n=1)
    return f"there is no executor '{unknown[0]}'." + (f" Did you mean '{close[0]}'?" if close else "")


def _known() -> Set[str]:
    return EXECUTORS.keys() | plugins().executors.keys()


@cache
def disabled_executors() -> Mapping[str, str]:
    """Map the id of each disabled executor to the command or setting that enables it."""
    email, ssh = settings.APFLOW.email, settings.APFLOW.executors.ssh
    needed = {  # settings that the operator has to make
        "command_executor": (settings.APFLOW_COMMAND.allow, "executors.command.allow: [/path/of/a/program]"),
        "docker_executor": (settings.APFLOW.executors.docker.images, "executors.docker.images: [python:3.13-slim]"),
        "send_email_executor": (
            email.host and email.sender and email.allow,
            "email: {host: smtp.example.com, sender: apflow@example.com, allow: ['*@example.com']}",
        ),
        "ssh_executor": (
            ssh.hosts and ssh.keys and ssh.known_hosts,
            "executors.ssh: {hosts: {build: deploy@build.example.com}, keys: [/path/of/a/key], known_hosts: /path/of/a/file}",
        ),
    }
    off = {executor_id: remedy for executor_id, (is_made, remedy) in needed.items() if not is_made}
    extras = {**NEEDS, **{executor_id: cls.extra for executor_id, cls in plugins().executors.items()}}
    missing = {
        executor_id: how_to_install(extra)
        for executor_id, extra in extras.items()
        if extra is not None and not is_installed(extra)
    }
    return MappingProxyType(off | missing)


@cache
def get_executor(executor_id: str) -> Executor:
    """Return this process's instance of the executor.

    Raises ExecutorNotFound, with the closest ids or the command or setting that enables it.
    """
    if executor_id not in executor_ids() and executor_id not in INTERNAL:
        raise ExecutorNotFound(
            executor_id,
            close_matches=get_close_matches(executor_id, sorted(executor_ids())),
            enable_with=disabled_executors().get(executor_id),
        )
    return _class_of(executor_id)()


def describe(executor_id: str) -> Json:
    """Return an executor's declarations as JSON. Raises ExecutorNotFound."""
    is_enabled = executor_id not in disabled_executors()
    cls = type(get_executor(executor_id)) if is_enabled else _class_of(executor_id)
    return {
        "id": cls.id,
        "name": cls.name,
        "description": cls.description,
        "tags": list(cls.tags),
        "input_schema": cls.input_schema,
        "result_schema": cls.result_schema,
        "idempotent": cls.idempotent,
        "cancelable": cls.cancelable,
        "pool": (settings.APFLOW.pools.executors or {}).get(executor_id, cls.pool),
        "extra": cls.extra,
        "enabled": is_enabled,
        "example": cls.example,
        "example_result": cls.example_result,
    }


def answers(executor_id: str | None) -> bool:
    """Return whether results of this executor have an answer in words."""
    return answer_field(executor_id) is not None


def answer_in(result: Any, *, executor_id: str | None) -> str | None:
    """Return the answer in words within a result of this executor; None if there is none."""
    if isinstance(result, str):
        return result or None
    field = answer_field(executor_id) if isinstance(result, dict) else None
    answer = None if field is None else result.get(field)
    return answer if isinstance(answer, str) and answer else None


def answer_field(executor_id: str | None) -> str | None:
    """Return the field of results of this executor that has an answer in words; None if there is none."""
    if executor_id is None or executor_id not in EXECUTORS.keys() | plugins().executors.keys():
        return None
    return _class_of(executor_id).answer


def _class_of(executor_id: str) -> type[Executor]:
    plugin = plugins().executors.get(executor_id)
    return plugin if plugin is not None else import_string({**EXECUTORS, **INTERNAL}[executor_id])
