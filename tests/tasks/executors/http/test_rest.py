"""The REST executor against a real server on loopback."""

import base64
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.http.rest import Rest
from tests.ports import free_port
from tests.tasks.executors.conftest import Web

pytestmark = pytest.mark.usefixtures("allow_loopback")

CANARY = "canary-secret"


async def call(inputs: dict[str, Any], context: Context) -> dict[str, Any]:
    """What the engine does: check the inputs, execute; and the result must fit what the executor declares."""
    Draft202012Validator(Rest.input_schema).validate(inputs)
    result = await Rest().execute(inputs, context)
    Draft202012Validator(Rest.result_schema).validate(result)
    return result


async def test_a_json_answer_is_parsed(web: Web, context: Context) -> None:
    web.answer(200, b'{"n": [1, null, "\xc3\xa4"]}', Content_Type="application/json; charset=utf-8", X_Trace="t1")
    result = await call({"url": f"{web.url}/items"}, context)
    assert result["json"] == {"n": [1, None, "ä"]}
    assert "body" not in result
    assert result["status_code"] == 200
    assert result["headers"]["x-trace"] == "t1"
    assert result["url"] == f"{web.url}/items"
    assert result["elapsed_ms"] > 0


@pytest.mark.parametrize(
    ("body", "content_type", "key", "value"),
    [
        (b"1", "application/json", "json", 1),
        (b"null", "application/problem+json", "json", None),
        (b"[]", "APPLICATION/JSON", "json", []),
        (b"", "application/json", "body", ""),
        (b'{"a": 1}', "text/plain", "body", '{"a": 1}'),
        (b"\xe4", "text/plain; charset=iso-8859-1", "body", "ä"),
        (b"\xc3\xa4", "text/html", "body", "ä"),
        (b"\xc3\xa4", "text/html; charset=nonsense", "body", "ä"),
        (b"\xe4", "text/plain; charset=windows-1252", "body", "ä"),
        ("語".encode("shift_jis"), 'text/html; format=flowed; charset="Shift_JIS"', "body", "語"),
        ("語".encode("gb18030"), "text/html;charset=GB18030", "body", "語"),
        ("語".encode("utf-16"), "text/plain; charset=UTF-16", "body", "語"),
        # Decoders that take quadratic time, that decompress, and one that would be imported by this name.
        (b"tda", "text/plain; charset=punycode", "body", "tda"),
        (b"xn--tda", "text/plain; charset=idna", "body", "xn--tda"),
        (zlib.compress(b"a"), "text/plain; charset=zlib_codec", "body", zlib.compress(b"a").decode(errors="replace")),
        (b"61", "text/plain; charset=hex", "body", "61"),
        (b"\\u0061", "text/plain; charset=unicode_escape", "body", "\\u0061"),
        (b"\xff\xfe", "application/octet-stream", "body", "\ufffd\ufffd"),
    ],
)
async def test_the_content_type_says_how_the_body_is_read(
    body: bytes, content_type: str, key: str, value: Any, web: Web, context: Context
) -> None:
    web.answer(200, body, Content_Type=content_type)
    result = await call({"url": web.url}, context)
    assert result[key] == value
    assert len({"json", "body"} & result.keys()) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_every_method_is_sent(method: str, web: Web, context: Context) -> None:
    web.answer(204)
    assert (await call({"url": web.url, "method": method}, context))["status_code"] == 204
    assert web.received[0].method == method


@pytest.mark.parametrize(
    ("inputs", "body", "content_type"),
    [
        ({"json": {"ä": [1, None]}}, '{"ä":[1,null]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"data": "plain ä"}, "plain ä".encode(), "text/plain; charset=utf-8"),
        ({"data": {"a": "x y&z", "b": True, "c": 1}}, b"a=x+y%26z&b=true&c=1", "application/x-www-form-urlencoded"),
        ({"data": "<a/>", "headers": {"content-type": "text/xml"}}, b"<a/>", "text/xml"),
        ({}, b"", None),
    ],
)
async def test_the_body_is_sent_with_its_content_type(
    inputs: dict[str, Any], body: bytes, content_type: str | None, web: Web, context: Context
) -> None:
    await call({"url": web.url, "method": "POST", **inputs}, context)
    assert web.received[0].body == body
    assert web.received[0].headers.get("content-type") == content_type


async def test_params_and_headers_are_sent(web: Web, context: Context) -> None:
    await call({"url": f"{web.url}/?a=1", "params": {"b": ["x", "y"]}, "headers": {"X-Team": "blue"}}, context)
    assert web.received[0].path == "/?a=1&b=x&b=y"
    assert web.received[0].headers["x-team"] == "blue"


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"bearer": CANARY}, "authorization", f"Bearer {CANARY}"),
        (
            {"basic": {"username": "ada", "password": "ü:x"}},
            "authorization",
            f"Basic {base64.b64encode('ada:ü:x'.encode()).decode()}",
        ),
        ({"apikey": {"value": CANARY}}, "x-api-key", CANARY),
        ({"apikey": {"header": "X-Token", "value": CANARY}}, "x-token", CANARY),
    ],
)
async def test_credentials_are_sent_as_a_header(
    auth: dict[str, Any], header: str, value: str, web: Web, context: Context
) -> None:
    await call({"url": web.url, "auth": auth}, context)
    assert web.received[0].headers[header] == value


@pytest.mark.parametrize(
    ("inputs", "key"),
    [
        ({"method": "POST"}, "of the task"),
        ({"method": "DELETE"}, "of the task"),
        ({"method": "POST", "headers": {"idempotency-key": "mine"}}, "mine"),
        ({"method": "GET"}, None),
        ({"method": "HEAD"}, None),
        ({}, None),
    ],
)
async def test_a_change_carries_a_key_that_tells_a_repeat(
    inputs: dict[str, Any], key: str | None, web: Web, context: Context
) -> None:
    again = replace(context, task_id="task-7", attempt=2)
    await call({"url": web.url, **inputs}, again)
    expected = again.idempotency_key if key == "of the task" else key
    assert web.received[0].headers.get("idempotency-key") == expected


async def test_the_beginning_is_stored_before_the_first_byte_of_a_request(web: Web, context: Context) -> None:
    received = list[int]()

    async def begin() -> None:
        received.append(len(web.received))

    begins = replace(context, begin=begin)
    await call({"url": web.url, "method": "POST"}, begins)
    assert (received, len(web.received)) == ([0], 1)
    with pytest.raises(ExecutorError, match="cannot connect"):
        await call({"url": f"http://127.0.0.1:{free_port()}", "method": "POST"}, begins)
    assert received == [0], "nothing was sent where nobody listens"


@pytest.mark.parametrize(
    ("inputs", "may"),
    [
        ({}, True),
        *(({"method": method}, True) for method in ("GET", "HEAD", "PUT", "DELETE")),
        *(({"method": method}, False) for method in ("POST", "PATCH", "{{a.method}}")),
        ({"method": "POST", "headers": {"idempotency-KEY": "mine"}}, True),
        ({"method": "POST", "headers": {"X-Key": "mine"}}, False),
        ({"method": "POST", "headers": "{{a.headers}}"}, False),
    ],
)
def test_a_request_may_be_repeated_by_its_method_or_its_own_key(inputs: dict[str, Any], may: bool) -> None:
    assert Rest().may_repeat({"url": "http://localhost", **inputs}) is may


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (301, True),
        (304, True),
        (400, True),
        (401, True),
        (404, True),
        (422, True),
        (408, False),
        (425, False),
        (429, False),
        (500, False),
        (502, False),
        (503, False),
        (599, False),
    ],
)
async def test_a_status_other_than_2xx_is_a_failure(status: int, permanent: bool, web: Web, context: Context) -> None:
    web.answer(status, CANARY.encode(), X_Secret=CANARY, Location=f"http://{CANARY}.test/")
    inputs = {
        "url": f"{web.url}/items?token={CANARY}",
        "params": {"key": CANARY},
        "headers": {"X-Key": CANARY},
        "auth": {"bearer": CANARY},
    }
    with pytest.raises(ExecutorError) as caught:
        await call(inputs, context)
    assert f"GET {web.url}/items answered {status}" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.permanent is permanent
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize("expected", [404, [404], [200, 404]])
async def test_an_expected_status_is_a_result(expected: Any, web: Web, context: Context) -> None:
    web.answer(404, b'{"found": false}', Content_Type="application/json")
    result = await call({"url": web.url, "expected_status": expected}, context)
    assert (result["status_code"], result["json"]) == (404, {"found": False})


IN_AN_HOUR = "in an hour"  # of the test, not of the collection, which may be minutes before


def in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "7", 7),
        (503, "120", 120),
        (503, "0", 0),
        (503, IN_AN_HOUR, 3600),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (429, "Wed, 21 Oct 2015 07:28:00 -0000", 0),
        (429, "-5", None),
        (429, "soon", None),
        (429, "1e9", None),
        (429, "9999999999999", None),
        (429, "", None),
        (500, "7", None),
    ],
)
async def test_the_wait_that_the_service_asks_for_is_passed_on(
    status: int, retry_after: str, seconds: float | None, web: Web, context: Context
) -> None:
    web.answer(status, Retry_After=in_an_hour() if retry_after is IN_AN_HOUR else retry_after)
    with pytest.raises(ExecutorError) as caught:
        await call({"url": web.url}, context)
    assert caught.value.retry_after_seconds == (None if seconds is None else pytest.approx(seconds, abs=60))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"json": 1, "data": "x"}, "Both `json` and `data`"),
        ({"auth": {"bearer": CANARY}, "headers": {"authorization": CANARY}}, "'Authorization' is given in `headers`"),
        ({"auth": {"bearer": f"{CANARY}\r\nX: y"}}, "The header 'Authorization' is not valid"),
        ({"auth": {"apikey": {"header": "Host", "value": CANARY}}}, "The header 'Host' cannot be set by a task"),
        ({"url": "http://10.0.0.1/"}, "executors.rest.allow_private"),
        ({"url": "file:///etc/passwd"}, "The url is refused"),
    ],
)
async def test_a_request_that_makes_no_sense_is_not_sent(
    inputs: dict[str, Any], message: str, web: Web, context: Context
) -> None:
    with pytest.raises(ExecutorError) as caught:
        await call({"url": web.url, **inputs}, context)
    assert message in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.permanent
    assert web.received == []


async def test_an_answer_that_is_not_the_json_it_claims_to_be_is_a_failure(web: Web, context: Context) -> None:
    web.answer(200, b"{'a': 1}", Content_Type="application/json")
    with pytest.raises(ExecutorError, match="its body cannot be parsed"):
        await call({"url": web.url}, context)


async def test_the_result_is_json(web: Web, context: Context) -> None:
    web.answer(200, b"123456789012345678901234567890", Content_Type="application/json", Set_Cookie="a=1")
    result = await call({"url": web.url}, context)
    assert orjson.loads(orjson.dumps(result)) == result


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"url": 1},
        {"url": ""},
        {"url": "http://a.test/", "method": "get"},
        {"url": "http://a.test/", "method": "TRACE"},
        {"url": "http://a.test/", "method": "CONNECT"},
        {"url": "http://a.test/", "headers": {"X": 1}},
        {"url": "http://a.test/", "headers": ["X: 1"]},
        {"url": "http://a.test/", "params": {"a": {"b": 1}}},
        {"url": "http://a.test/", "data": [1]},
        {"url": "http://a.test/", "data": {"a": {"b": 1}}},
        {"url": "http://a.test/", "auth": {}},
        {"url": "http://a.test/", "auth": {"bearer": ""}},
        {"url": "http://a.test/", "auth": {"bearer": "a", "apikey": {"value": "b"}}},
        {"url": "http://a.test/", "auth": {"basic": {"username": "a"}}},
        {"url": "http://a.test/", "auth": {"digest": "a"}},
        {"url": "http://a.test/", "timeout_seconds": 0},
        {"url": "http://a.test/", "timeout_seconds": 601},
        {"url": "http://a.test/", "timeout_seconds": "30"},
        {"url": "http://a.test/", "verify": "no"},
        {"url": "http://a.test/", "verify": 0},
        {"url": "http://a.test/", "expected_status": "404"},
        {"url": "http://a.test/", "expected_status": [42]},
    ],
)
def test_inputs_of_another_shape_do_not_fit_the_schema(inputs: dict[str, Any]) -> None:
    assert not Draft202012Validator(Rest.input_schema).is_valid(inputs)
