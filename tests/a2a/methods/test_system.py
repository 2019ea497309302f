import pytest

from a2a.core.http import Headers
from a2a.core.jsonrpc import Call
from a2a.core.process import software_version
from a2a.methods import SYSTEM_METHODS
from a2a.methods.dispatch import SYSTEM as SYSTEM_DIALECT
from a2a.methods.dispatch import perform
from accounts.callers import Caller
from tasks.rules.exceptions import RoleTooLow
from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly

SYSTEM = "/system"


@pytest.mark.both_engines
def test_health_says_what_the_server_needs(rpc: Rpc) -> None:
    rpc("tasks.execute", {"tasks": {"name": "a"}, "wait": True})  # then the worker is up
    health = rpc("system.health", {}, path=SYSTEM)
    assert (health["status"], health["ready"], health["version"]) == ("ok", True, software_version())
    assert health["checks"].keys() >= {"database", "migrations", "worker"}


def test_every_executor_is_described(rpc: Rpc) -> None:
    executors = {each["id"]: each for each in rpc("system.executors", {}, path=SYSTEM)}
    assert executors["echo_executor"]["enabled"] is True
    assert executors["sleep_executor"]["input_schema"]["type"] == "object"


@pytest.mark.both_engines
def test_examples_are_stored_once_and_by_force_anew(rpc: Rpc) -> None:
    rpc("examples.init", {}, path=SYSTEM)
    assert rpc("examples.init", {}, path=SYSTEM) == {"root_task_ids": [], "count": 0}
    anew = rpc("examples.init", {"force": True}, path=SYSTEM)
    assert anew["count"] == len(anew["root_task_ids"]) > 2
    assert rpc("tasks.get", {"task_id": anew["root_task_ids"][0]})["status"] == "pending"


async def test_only_an_administrator_fills_the_database() -> None:
    call = Call(method="examples.init", params={})
    with pytest.raises(RoleTooLow):
        await perform(call, caller=Caller(user_id="alice"), dialect=SYSTEM_DIALECT, headers=Headers())


@pytest.mark.parametrize("path", ["/", "/tasks"])
@pytest.mark.parametrize("method", sorted(SYSTEM_METHODS.keys() - {"rpc.discover"}))
def test_methods_of_the_system_are_elsewhere_unknown(refusal: Rpc, path: str, method: str) -> None:
    assert refusal(method, {}, path=path)["code"] == -32601


def test_methods_of_tasks_are_unknown_to_the_system(refusal: Rpc) -> None:
    assert refusal("tasks.get", {"task_id": "a"}, path=SYSTEM)["code"] == -32601
