"""The agent card: what it says, in which fields, how it is cached, signed, and extended for who has logged in."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient

from a2a.core.exceptions import ExtendedCardNotConfigured
from a2a.methods import METHODS
from a2a.protocol.agent_card import build_card, build_extended_card, canonical, key_set, signed
from a2a.protocol.skills import EXAMPLE_TREE
from a2a.protocol.versions import RESUME_EXTENSION, TASK_TREE_EXTENSION
from accounts.callers import LOCAL
from tasks.executors import describe, executor_ids
from tests.a2a.a2a_client import ECHO, Agent, data, text
from tests.a2a.conftest import Rpc
from tests.a2a.schemas import check
from tests.sections import replace

ADDRESSES = ["/.well-known/agent-card.json", "/.well-known/agent-card", "/.well-known/agent.json"]
URL = "https://flow.example/"
IN_0_3 = "protocolVersion name description url version capabilities defaultInputModes defaultOutputModes skills".split()


@pytest.fixture
def card() -> dict[str, Any]:
    return build_card(url=URL)


def configure(settings: LazySettings, **sections: dict[str, Any]) -> None:
    """Change some of our settings."""
    changed = {name: replace(getattr(settings.APFLOW, name), **values) for name, values in sections.items()}
    settings.APFLOW = replace(settings.APFLOW, **changed)


@pytest.fixture
def with_auth(settings: LazySettings) -> None:
    configure(settings, auth={"enabled": True, "jwt_secret": "correct-horse-battery-staple-0123456789"})


@pytest.mark.requirement("CARD-DISC-001", "CARD-CACHE-001", "CARD-CACHE-002", "CARD-CACHE-003")
@pytest.mark.parametrize("path", ADDRESSES)
def test_the_card_is_at_each_of_its_addresses(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert "max-age=" in response.headers["Cache-Control"]
    assert response.headers["Last-Modified"].endswith(" GMT")
    assert response.headers["Vary"] == "A2A-Version"
    assert response.json()["url"] == str(http.base_url).rstrip("/") + "/"


@pytest.mark.requirement("CARD-CACHE-002")
def test_a_client_that_has_the_card_gets_304(http: httpx.Client) -> None:
    etag = http.get(ADDRESSES[0]).headers["ETag"]
    again = http.get(ADDRESSES[0], headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert http.get(ADDRESSES[0], headers={"If-None-Match": '"older"'}).status_code == 200
    assert http.get(ADDRESSES[0], headers={"If-None-Match": etag, "A2A-Version": "1.0"}).status_code == 200


@pytest.mark.parametrize("public_url", ["https://flow.example", "https://flow.example/", "https://a.example/flow"])
async def test_the_public_url_wins_over_the_host(
    async_client: AsyncClient, settings: LazySettings, public_url: str
) -> None:
    configure(settings, server={"public_url": public_url})
    card = (await async_client.get(ADDRESSES[0])).json()
    url = public_url.rstrip("/") + "/"
    assert card["url"] == card["additionalInterfaces"][0]["url"] == url
    assert {interface["url"].rstrip("/") for interface in card["supportedInterfaces"]} == {public_url.rstrip("/")}


@pytest.mark.requirement("CARD-PROTO-002")
def test_who_asks_cannot_say_where_the_server_is(http: httpx.Client) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "666", "Forwarded": "host=evil.example"}
    assert http.get(ADDRESSES[0], headers=forged).json()["url"] == str(http.base_url).rstrip("/") + "/"


def test_the_card_has_what_a2a_0_3_requires(card: dict[str, Any]) -> None:
    assert (card["protocolVersion"], card["preferredTransport"]) == ("0.3.0", "JSONRPC")
    assert all(card[name] for name in IN_0_3)


@pytest.mark.requirement("CARD-PROTO-001", "BIND-FIELD-001")
def test_the_card_names_every_binding_of_both_versions(card: dict[str, Any]) -> None:
    offered = [(each["protocolBinding"], each["protocolVersion"], each["url"]) for each in card["supportedInterfaces"]]
    bare = URL.rstrip("/")
    assert offered == [
        ("JSONRPC", "1.0", URL),
        ("HTTP+JSON", "1.0", bare),
        ("JSONRPC", "0.3", URL),
        ("HTTP+JSON", "0.3", bare),
    ]
    assert [each["transport"] for each in card["additionalInterfaces"]] == ["JSONRPC", "HTTP+JSON"]


@pytest.mark.requirement("CARD-PROTO-002")
@pytest.mark.both_engines_nightly
def test_each_interface_is_where_the_card_says(alice: Agent) -> None:
    card = alice.http.get(ADDRESSES[0]).json()
    for interface in card["supportedInterfaces"]:
        version = interface["protocolVersion"]
        headers = alice.headers | {"A2A-Version": version}
        if interface["protocolBinding"] == "JSONRPC":
            method = {"1.0": "GetTask", "0.3": "tasks/get"}[version]
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": "nowhere"}}
            reply = httpx.post(interface["url"], json=request, headers=headers, timeout=60).json()
            assert reply["error"]["code"] == -32001
        else:
            path = {"1.0": "tasks/nowhere", "0.3": "v1/tasks/nowhere"}[version]
            assert httpx.get(f"{interface['url']}/{path}", headers=headers, timeout=60).status_code == 404


@pytest.mark.requirement("CARD-STRUCT-001")
async def test_the_card_of_1_0_has_its_fields_and_no_other(
    async_client: AsyncClient, settings: LazySettings, with_auth: None
) -> None:
    pure = (await async_client.get(ADDRESSES[0], headers={"A2A-Version": "1.0"})).json()
    check(pure, "AgentCard")
    assert {each["protocolVersion"] for each in pure["supportedInterfaces"]} == {"1.0"}
    hybrid = (await async_client.get(ADDRESSES[0])).json()
    assert pure.keys() < hybrid.keys()


@pytest.mark.parametrize(
    ("version", "absent"),
    [
        ("1.0", {"url", "protocolVersion", "additionalInterfaces", "security", "preferredTransport"}),
        ("0.3", {"supportedInterfaces", "securityRequirements"}),
        ("hybrid", set()),
    ],
)
async def test_a_setting_says_which_fields_the_card_has(
    async_client: AsyncClient, settings: LazySettings, with_auth: None, version: str, absent: set[str]
) -> None:
    configure(settings, a2a={"card": version})
    card = (await async_client.get(ADDRESSES[0])).json()
    assert not absent & card.keys()
    known = {"url", "protocolVersion", "additionalInterfaces", "security", "preferredTransport", "supportedInterfaces"}
    assert known - absent <= card.keys()


def test_there_is_a_skill_for_trees_and_one_for_each_executor(card: dict[str, Any]) -> None:
    assert [skill["id"] for skill in card["skills"]] == [
        "execute-task-tree",
        *sorted(executor_ids() - {"python_executor"}),
    ]  # no function
    for skill in card["skills"]:
        assert skill.keys() == {"id", "name", "description", "tags", "examples", "inputModes", "outputModes"}
        assert skill["name"] and skill["description"] and skill["tags"]
        assert all(isinstance(example, str) for example in skill["examples"])


def test_the_extension_names_every_method_and_the_schemas_of_every_executor(card: dict[str, Any]) -> None:
    extension, resuming = card["capabilities"]["extensions"]
    assert (resuming["uri"], resuming["required"]) == (RESUME_EXTENSION, False)
    assert (extension["uri"], extension["required"]) == (TASK_TREE_EXTENSION, False)
    assert extension["params"]["methods"] == list(METHODS)
    assert extension["params"]["executors"].keys() == executor_ids()
    assert (
        extension["params"]["executors"]["sleep_executor"]["inputSchema"] == describe("sleep_executor")["input_schema"]
    )


def test_the_card_asks_for_a_token_only_when_authentication_is_on(card: dict[str, Any], with_auth: None) -> None:
    asking = build_card(url=URL)
    assert {"securitySchemes", "security", "securityRequirements"} == asking.keys() - card.keys()


def test_the_example_of_the_tree_skill_works(rpc: Rpc) -> None:
    assert rpc("tasks.execute", EXAMPLE_TREE | {"wait": True}, path="/")["status"]["state"] == "completed"


def test_no_example_of_a_skill_needs_a_secret(card: dict[str, Any]) -> None:
    examples = [example for skill in card["skills"] for example in skill.get("examples", ())]
    assert examples
    assert [example for example in examples if "{{secret." in example] == []


@pytest.mark.both_engines_nightly
def test_the_example_of_a_skill_works(alice: Agent) -> None:
    card = alice.http.get(ADDRESSES[0]).json()
    (skill,) = [each for each in card["skills"] if each["id"] == "system_info_executor"]
    task = alice.send(text(skill["examples"][0]))
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"


# --- the extended card ---


@pytest.mark.both_engines_nightly
@pytest.mark.requirement("CARD-EXT-001")
def test_the_extended_card_is_for_who_has_logged_in_and_has_their_own_trees(alice: Agent, bob: Agent) -> None:
    task = alice.send(data(ECHO))
    card = alice.call("GetExtendedAgentCard")
    check(card, "AgentCard")
    skill_id = f"tree:{task['metadata']['rootTaskId']}"
    assert skill_id in [skill["id"] for skill in card["skills"]]
    assert skill_id not in str(bob.call("GetExtendedAgentCard"))
    again = alice.send(data({"skill": skill_id}))
    assert again["artifacts"][-1]["parts"] == task["artifacts"][-1]["parts"]
    nobody = Agent(http=alice.http).post("GetExtendedAgentCard")
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert alice.http.get(ADDRESSES[0]).json()["capabilities"]["extendedAgentCard"] is True


@pytest.mark.requirement("CARD-EXT-002")
def test_a_declared_card_without_users_is_not_configured(settings: LazySettings) -> None:
    configure(settings, a2a={"extended_card": True})
    assert build_card(url=URL)["capabilities"]["extendedAgentCard"] is True
    with pytest.raises(ExtendedCardNotConfigured):
        build_extended_card(caller=LOCAL, url=URL, version="1.0")


# --- the signature ---


@pytest.fixture
def key_path(tmp_path: Path) -> Iterator[str]:
    yield write_key(tmp_path / "card.pem")


def write_key(path: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(card: dict[str, Any], keys: dict[str, Any]) -> None:
    """Raises InvalidSignature, or StopIteration for a key that is not in the set (any more)."""
    (signature,) = card["signatures"]
    header = orjson.loads(decoded(signature["protected"]))
    known = next(key for key in keys["keys"] if key["kid"] == header["kid"])
    x, y = (int.from_bytes(decoded(known[name])) for name in "xy")
    unsigned = {name: value for name, value in card.items() if name != "signatures"}
    payload = canonical(unsigned)
    text = signature["protected"] + "." + encoded(payload)
    numbers = decoded(signature["signature"])
    der = encode_dss_signature(int.from_bytes(numbers[:32]), int.from_bytes(numbers[32:]))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(der, text.encode(), ec.ECDSA(hashes.SHA256()))


def encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.requirement("CARD-SIGN-001", "CARD-SIGN-002", "CARD-SIGN-003")
async def test_the_card_is_signed_by_the_key_of_the_settings(
    async_client: AsyncClient, settings: LazySettings, key_path: str
) -> None:
    configure(settings, a2a={"signing_key": key_path})
    card = (await async_client.get(ADDRESSES[0], headers={"A2A-Version": "1.0"})).json()
    check(card, "AgentCard")
    header = orjson.loads(decoded(card["signatures"][0]["protected"]))
    assert (header["alg"], header["typ"]) == ("ES256", "JOSE")
    assert header["kid"]
    keys = (await async_client.get("/.well-known/jwks.json")).json()
    verify(card, keys)
    shuffled = dict(reversed(card.items()))
    verify(shuffled, keys)
    with pytest.raises(InvalidSignature):
        verify(card | {"name": "another"}, keys)
    assert "PRIVATE" not in str(keys)
    assert not {"d"} & keys["keys"][0].keys()


@pytest.mark.requirement("CARD-SIGN-004")
def test_a_key_that_was_replaced_verifies_nothing_more(tmp_path: Path) -> None:
    old, new = (write_key(tmp_path / name) for name in ("old.pem", "new.pem"))
    card = signed({"name": "a"}, key_path=old, url=URL)
    verify(card, key_set(key_path=old))
    with pytest.raises(StopIteration):
        verify(card, key_set(key_path=new))
    assert key_set(key_path=None) == {"keys": []}


def test_the_signature_is_the_same_each_time_so_that_caches_work(key_path: str) -> None:
    assert signed({"a": 1}, key_path=key_path, url=URL) == signed({"a": 1}, key_path=key_path, url=URL)


@pytest.mark.parametrize("content", [None, b"nonsense", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match="signing_key"):
        signed({}, key_path=str(path), url=URL)


@pytest.mark.requirement("CARD-SIGN-001")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ({"é": 1, "z": 2, "€": 3}, '{"z":2,"é":1,"€":3}'),
        ({"\U0001f600": 1, "ﬁ": 2}, '{"\U0001f600":1,"ﬁ":2}'),  # sorted as UTF-16, not as code points
        (
            [1.0, 1e21, 1e-7, 0.000001, 333333333.33333329, 4.5, -0.0, 1e30, 2e-3],
            "[1,1e+21,1e-7,0.000001,333333333.3333333,4.5,0,1e+30,0.002]",
        ),
        ('€$\u000f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
    ],
)
def test_canonical_json_is_that_of_rfc_8785(value: Any, text: str) -> None:
    assert canonical(value).decode() == text
