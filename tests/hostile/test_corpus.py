"""Every line of the corpus against a real server of each engine: refused as it should be, in time, in the same bytes, and nothing is stored."""

import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec
import orjson
import pytest

from tests.hostile.cases import Case, cases
from tests.hostile.conftest import Target

SECONDS: Final = 5.0
"""Most take milliseconds. None may take what grows faster than its size."""
CASES: Final = tuple(pytest.param(case, id=f"{file}: {case.name}") for file, case in cases())
OF_EXCEPTIONS: Final = re.compile(rb'Traceback|File \\?"|psycopg|sqlite3|django\.|OperationalError|DataError')
MADE_BY_SERVERS: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)"
)
HEADERS: Final = ("content-type", "allow", "cache-control", "www-authenticate", "retry-after", "x-content-type-options")


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_request_is_refused_alike_on_both_engines(pair: Mapping[str, Target], case: Case) -> None:
    content = case.content
    for path in case.paths:
        answers = {engine: _answer_of(target, case, path, content) for engine, target in pair.items()}
        for answer in answers.values():
            _check(answer, case)
        assert len(set(map(_normal, answers.values()))) == 1, _texts(answers)


def test_the_corpus_has_no_line_twice() -> None:
    lines = [repr((file, msgspec.structs.replace(case, name=""))) for file, case in cases()]
    assert len(set(lines)) == len(lines) >= 300


def test_the_servers_are_alive_after_all_that(pair: Mapping[str, Target]) -> None:
    for target in pair.values():
        assert target.server.rpc("tasks.get", {"task_id": "seed"})["status"] == "pending"


def _answer_of(target: Target, case: Case, path: str, content: bytes) -> httpx.Response:
    """The answer. Raises AssertionError when the request changed how many rows there are."""
    before = target.rows()
    answer = target.server.http.request(case.http, path, content=content, headers=case.sent_headers, timeout=SECONDS)
    assert target.rows() == before | {"tasks_task": before["tasks_task"] + case.stores}, path
    return answer


def _check(answer: httpx.Response, case: Case) -> None:
    told = f"{answer.url.path}: {answer.content[:2000]!r}"
    assert answer.elapsed.total_seconds() < SECONDS, told
    assert answer.status_code == case.status, told
    assert not OF_EXCEPTIONS.search(answer.content), told
    if case.http == "HEAD" or answer.status_code == 204:
        assert not answer.content
        return
    assert answer.headers["content-type"] == "application/json", told
    reply = orjson.loads(answer.content)
    is_a2a = answer.url.path == "/"
    assert _codes_of(reply) == (case.a2a_code if is_a2a and case.a2a_code else case.code), told
    if isinstance(reply, dict):
        _check_reply(reply, case, is_a2a=is_a2a)


def _codes_of(reply: Any) -> Any:
    """The code of each error; None stands for a result."""
    if isinstance(reply, list):
        return [_codes_of(each) for each in reply]
    return reply["error"]["code"] if "error" in reply else None


def _check_reply(reply: dict[str, Any], case: Case, *, is_a2a: bool) -> None:
    if case.field is not None:
        assert reply["error"]["data"][0]["field"] == case.field, reply
        assert case.field in reply["error"]["message"], reply
    if isinstance(case.request, dict) and isinstance(case.code, int) and case.code != -32600:
        assert (reply["id"], type(reply["id"])) == (case.request["id"], type(case.request["id"]))
    if isinstance(case.result, list):
        assert reply["result"] == case.result
    if case.echoes is not None:
        task = reply["result"]["metadata"]["task"] if is_a2a else reply["result"]
        assert (task["name"], task["inputs"]) == (case.echoes, {case.echoes: case.echoes})


def _normal(answer: httpx.Response) -> tuple[object, ...]:
    """What must be the same on each engine: all but the ids and the times that the server makes."""
    headers = tuple(answer.headers.get(name) for name in HEADERS)
    return answer.status_code, headers, MADE_BY_SERVERS.sub(b"made", answer.content)


def _texts(answers: Mapping[str, httpx.Response]) -> str:
    return "\n".join(f"{engine}: {answer.status_code} {answer.text[:2000]}" for engine, answer in answers.items())
