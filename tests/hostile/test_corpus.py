"""Every line of the corpus against a real server of each engine: refused as it should be, in the same bytes, and nothing is stored."""

import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec
import orjson
import pytest

from apflow_site.edge.calls import DIALECTS
from tests.hostile.cases import CORPUS, Case, cases_of
from tests.hostile.conftest import Target
from tests.servers import LONG_WAY

TIMEOUT_SECONDS: Final = 60.0
"""A server that gives no answer is a failure; how long an answer takes is not measured here."""
FILES: Final = tuple(sorted(file.stem for file in CORPUS.glob("*.jsonl")))
DECODED_ONLY: Final = frozenset({"large_bodies"})
"""Refused before any method is called, and costly: one engine and one path are enough."""
OF_EXCEPTIONS: Final = re.compile(rb'Traceback|File \\?"|psycopg|sqlite3|django\.|OperationalError|DataError')
MADE_BY_SERVERS: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)"
    rb'|(?<="next_cursor":")[^"]+'  # of such an id and time
)
HEADERS: Final = ("content-type", "allow", "cache-control", "www-authenticate", "retry-after", "x-content-type-options")


@pytest.mark.parametrize("file", FILES)
def test_hostile_requests_are_refused_alike_on_both_engines(target_of_engine: Mapping[str, Target], file: str) -> None:
    """The failure names every line of the file that was answered wrongly, and how."""
    faults = {}
    for case in cases_of(file):
        try:
            _check_case(target_of_engine, case, is_decoded_only=file in DECODED_ONLY)
        except (AssertionError, httpx.TransportError) as fault:
            faults[case.name] = repr(fault)
    assert not faults, "\n\n".join(f"{name}: {fault}" for name, fault in faults.items())


def _check_case(target_of_engine: Mapping[str, Target], case: Case, *, is_decoded_only: bool) -> None:
    """The engines differ below a method, and the paths above it: each path on one engine, and one of them on both."""
    content = case.content
    sqlite = {"sqlite": target_of_engine["sqlite"]}
    *others, last = case.paths
    if is_decoded_only:
        _check_answers(sqlite, case, last, content)
        return
    _check_answers(target_of_engine, case, last, content)
    for path in others:
        _check_answers(sqlite, case, path, content)


def _check_answers(target_of_engine: Mapping[str, Target], case: Case, path: str, content: bytes) -> None:
    answers = {engine: _answer_of(target, case, path, content) for engine, target in target_of_engine.items()}
    if path in DIALECTS:
        longer = msgspec.structs.replace(case, headers={**case.headers, **LONG_WAY})
        answers["sqlite, the long way"] = _answer_of(target_of_engine["sqlite"], longer, path, content)
    for answer in answers.values():
        _check(answer, case)
    assert len(set(map(_normal, answers.values()))) == 1, _texts(answers)


def test_the_corpus_has_no_line_twice() -> None:
    for file in FILES:
        lines = [repr(msgspec.structs.replace(case, name="")) for case in cases_of(file)]
        assert len(set(lines)) == len(lines), file
    assert sum(len(cases_of(file)) for file in FILES) >= 300


def test_the_servers_are_alive_after_all_that(target_of_engine: Mapping[str, Target]) -> None:
    for target in target_of_engine.values():
        assert target.server.rpc("tasks.get", {"task_id": "seed"})["status"] == "pending"


def _answer_of(target: Target, case: Case, path: str, content: bytes) -> httpx.Response:
    """The answer. Raises AssertionError when the request changed how many rows there are, except as the case says."""
    answer = target.server.http.request(
        case.http, path, content=content, headers=case.sent_headers, timeout=TIMEOUT_SECONDS
    )
    assert target.new_rows() == ({"tasks_task": case.stores} if case.stores else {}), path
    return answer


def _check(answer: httpx.Response, case: Case) -> None:
    told = f"{answer.url.path}: {answer.content[:2000]!r}"
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
        sent_id = case.request.get("id")
        assert (reply["id"], type(reply["id"])) == (sent_id, type(sent_id))
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
