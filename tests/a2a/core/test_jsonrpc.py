from typing import Any

import pytest

from a2a.core.jsonrpc import INVALID_REQUEST, Call, Failure, Reply, parse


def parsed(value: Any) -> Any:
    return parse(value, batch_limit=3)


@pytest.mark.parametrize(
    ("request_", "call"),
    [
        # The examples of section 7 of the specification that are well formed.
        (
            {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1},
            Call(method="subtract", params=[42, 23], id=1),
        ),
        (
            {"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3},
            Call(method="subtract", params={"subtrahend": 23, "minuend": 42}, id=3),
        ),
        (
            {"jsonrpc": "2.0", "method": "update", "params": [1, 2, 3, 4, 5]},
            Call(method="update", params=[1, 2, 3, 4, 5], id=None),
        ),
        ({"jsonrpc": "2.0", "method": "foobar"}, Call(method="foobar", params={}, id=None)),
        ({"jsonrpc": "2.0", "method": "foobar", "id": "1"}, Call(method="foobar", params={}, id="1")),
        # A null id is unusual, but it is an id.
        ({"jsonrpc": "2.0", "method": "foobar", "id": None}, Call(method="foobar", params={}, id=None)),
        ({"jsonrpc": "2.0", "method": "foobar", "id": 1.5}, Call(method="foobar", params={}, id=1.5)),
        ({"jsonrpc": "2.0", "method": "foobar", "id": 2**64 - 1}, Call(method="foobar", params={}, id=2**64 - 1)),
    ],
)
def test_a_well_formed_request_is_a_call(request_: Any, call: Call) -> None:
    assert parsed(request_) == call


@pytest.mark.parametrize(
    ("request_", "call_id"),
    [
        ({"jsonrpc": "2.0", "method": 1, "params": "bar"}, None),
        ({"jsonrpc": "2.0", "method": 1, "id": 7}, 7),
        ({"jsonrpc": "2.0", "method": "m", "params": "bar", "id": "x"}, "x"),
        ({"jsonrpc": "2.0", "method": "m", "params": None, "id": 1}, 1),
        ({"jsonrpc": "1.0", "method": "m", "id": 1}, 1),
        ({"method": "m", "id": 1}, 1),
        ({"jsonrpc": 2.0, "method": "m", "id": 1}, 1),
        ({"jsonrpc": "2.0", "id": 1}, 1),
        ({"jsonrpc": "2.0", "method": "m", "id": True}, None),
        ({"jsonrpc": "2.0", "method": "m", "id": [1]}, None),
        ({"jsonrpc": "2.0", "method": "m", "id": 2**64}, None),
        ({}, None),
        (1, None),
        ("m", None),
        (None, None),
        ([], None),
    ],
)
def test_anything_else_is_an_invalid_request(request_: Any, call_id: Any) -> None:
    failure = parsed(request_)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.id) == (INVALID_REQUEST, call_id)
    assert failure.message.startswith("Invalid request: ")


def test_a_batch_is_parsed_item_by_item() -> None:
    first, second, third = parsed([1, {"jsonrpc": "2.0", "method": "m", "id": 1}, {"jsonrpc": "2.0", "method": "n"}])
    assert first.code == INVALID_REQUEST
    assert second == Call(method="m", params={}, id=1)
    assert third.is_notification


def test_a_batch_in_a_batch_is_an_invalid_request() -> None:
    (inner,) = parsed([[{"jsonrpc": "2.0", "method": "m", "id": 1}]])
    assert inner.code == INVALID_REQUEST


def test_a_batch_over_the_limit_is_refused_as_a_whole() -> None:
    failure = parsed([{"jsonrpc": "2.0", "method": "m", "id": number} for number in range(4)])
    assert isinstance(failure, Failure)
    assert failure.message == "Invalid request: A batch may contain 3 requests, this one has 4. Split it."


def test_answers_carry_a_result_or_an_error_and_never_both() -> None:
    assert Reply(id="1", result=None).to_json() == {"jsonrpc": "2.0", "id": "1", "result": None}
    assert Failure(code=1, message="no", id=1).to_json() == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": 1, "message": "no"},
    }
    assert Failure(code=1, message="no", data=[]).to_json()["error"]["data"] == []
