"""The official client of A2A for JavaScript goes its way through a real server: both versions, by JSON-RPC and by HTTP+JSON."""

from pathlib import Path

import pytest

from tests.interop.environments import node_packages, printed
from tests.interop.promises import ALL_SECONDS, CHEAP, assert_all_work, assert_keeps_texts, assert_says_hello
from tests.servers import Server

ERRORS = {
    ("1.0", "JSONRPC"): ["JsonRpcTaskNotFoundError", "JsonRpcTaskNotCancelableError"],
    ("1.0", "HTTP+JSON"): ["RestTaskNotFoundError", "RestTaskNotCancelableError"],
    ("0.3", "JSONRPC"): ["JsonRpcTaskNotFoundError", "JsonRpcTaskNotCancelableError"],
    ("0.3", "HTTP+JSON"): ["Error", "Error"],  # it knows no more exact ones there
}


@pytest.fixture(scope="module")
def script() -> Path:
    return node_packages(Path(__file__).parent / "js") / "client.mjs"


@pytest.mark.nightly
@pytest.mark.parametrize(("version", "binding"), list(ERRORS))
def test_the_client_for_javascript(server: Server, script: Path, version: str, binding: str) -> None:
    seen = printed("node", str(script), server.url, version, binding, ",".join(CHEAP))
    assert_says_hello(seen["ask"].pop("says"))
    assert assert_keeps_texts(seen.pop("errors"))[:2] == ERRORS[version, binding]
    card, kinds = seen.pop("card"), seen["stream"].pop("kinds")
    assert (card["name"], card["streaming"]) == ("aipartnerupflow", True)
    assert (kinds[0], kinds[-2:]) == ("task", ["artifactUpdate", "statusUpdate"])
    assert seen.pop("list", [True]) == [True]  # 0.3 has no list
    assert seen == {
        "send": {"state": "TASK_STATE_COMPLETED", "last": "result"},
        "stream": {"last": "TASK_STATE_COMPLETED"},
        "ask": {"state": "TASK_STATE_INPUT_REQUIRED"},
        "skills": dict.fromkeys(CHEAP, "TASK_STATE_COMPLETED"),
        "answer": "TASK_STATE_COMPLETED",
        "get": "TASK_STATE_COMPLETED",
        "resubscribe": {"first": "task", "last": "TASK_STATE_COMPLETED"},
        "cancel": "TASK_STATE_CANCELED",
    }


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["1.0", "0.3"])
def test_every_example_of_the_card_works(server: Server, script: Path, version: str) -> None:
    seen = printed("node", str(script), server.url, version, "JSONRPC", "all", seconds=ALL_SECONDS)
    assert_all_work(seen["skills"])
