"""What a browser is shown: by session instead of by token, and with the same rule."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from django.urls import get_resolver

from tests.hostile.test_corpus import MADE_BY_SERVERS
from tests.isolation.conftest import PASSWORD, PeopleServer, missing

pytestmark = pytest.mark.both_engines_nightly

DOWNLOAD = "/ui/files/$document/"
PATHS = [
    "/ui/tasks/$task",
    "/ui/tasks/$leaf",
    "/ui/head/$task",
    "/ui/growth/$leaf",
    "/ui/panel/$leaf",
    "/ui/trace/$task",
    "/ui/trace/$task?run=$run&call=$model_call&replay=open",
    "/ui/trace/$leaf?q=secret",
    "/ui/calls/$model_call/",
    "/ui/logs/$task",
    "/ui/logs/$leaf?format=ndjson",
    "/ui/value/inputs/$leaf",
    "/ui/value/resolved/$leaf",
    "/ui/value/result/$task?download",
    "/ui/new/tree/?copy=$task",
    "/ui/save-flow/$task",
    "/ui/run-with/$leaf",
    "/ui/events/run/$run",
    "/ui/events/next/$task",
    "/ui/tasks/?owner=$user",
    "/ui/fork/$leaf",
    "/ui/runs/?task=$task",
    "/ui/runs/?q=$task&tag=nightly",
    "/ui/runs/$run/",
    "/ui/runs/$run/download/",
    "/ui/runs/selected/?then=delete&run=$run",
    "/ui/runs/compare/?a=$run&b=$run",
    DOWNLOAD,
    "/ui/files/$document/preview/",
    "/ui/schedules/$schedule/",
    "/ui/schedules/$schedule/edit/",
]
VERBS = ["run", "restart", "cancel", "delete", "answer"]
PERMIT = re.compile(r'data-permit="([^"]+)"')
CSRF = re.compile(r'(csrfmiddlewaretoken" value=|X-CSRFToken[^:]*:\s*)"?(\w+)')


@pytest.fixture(scope="module")
def browsers(people_server: PeopleServer) -> Iterator[dict[str, httpx.Client]]:
    """Alice and bob, each with a session; and somebody without."""
    found = {name: httpx.Client(base_url=people_server.server.url, timeout=60) for name in ("alice", "bob", "nobody")}
    for name in ("alice", "bob"):
        form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token_of(found[name])}
        assert found[name].post("/login/", data=form).status_code == 302
    yield found
    for browser in found.values():
        browser.close()


def token_of(browser: httpx.Client) -> str:
    found = CSRF.search(browser.get("/login/").text)
    assert found
    return found[2]


def seen(response: httpx.Response, names: dict[str, str]) -> tuple[int, str]:
    """Status and page, without the ids that were asked for, and without what is different each time."""
    text = CSRF.sub("", response.text)
    for name, value in names.items():
        text = text.replace(value, name)
    return response.status_code, MADE_BY_SERVERS.sub(b"*", text.encode()).decode()


def filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text


@pytest.fixture(scope="module")
def names(people_server: PeopleServer) -> dict[str, str]:
    return people_server.tree("alice", runs=True)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_anothers_looks_like_one_of_nothing(
    path: str, browsers: dict[str, httpx.Client], names: dict[str, str]
) -> None:
    html = {"Accept": "text/html"}
    pages = [seen(browsers["bob"].get(filled(path, given), headers=html), given) for given in (names, missing(names))]
    assert pages[0] == pages[1]
    assert browsers["nobody"].get(filled(path, names), headers=html).status_code in (302, 401)
    with browsers["alice"].stream("GET", filled(path, names), headers=html) as response:
        assert response.status_code == (302 if path == DOWNLOAD else 200)
        assert path != DOWNLOAD or response.headers["Location"].startswith(filled("/files/$document?link=", names))


@pytest.mark.parametrize("verb", VERBS)
def test_a_form_about_anothers_does_what_one_about_nothing_does(
    verb: str, people_server: PeopleServer, browsers: dict[str, httpx.Client], names: dict[str, str]
) -> None:
    before = people_server.dump()
    form = {"csrfmiddlewaretoken": token_of(browsers["bob"]), "answer": "yes"}
    answers = [
        seen(browsers["bob"].post(f"/ui/{verb}/{given['$task']}", data=form), given)
        for given in (names, missing(names))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert browsers["bob"].post(f"/ui/{verb}/{names['$task']}").status_code == 403  # without the form's own token
    assert people_server.dump() == before


@pytest.mark.parametrize("verb", ["feedback", "replay"])
def test_a_form_about_a_call_of_anothers_does_what_one_about_nothing_does(
    verb: str, people_server: PeopleServer, browsers: dict[str, httpx.Client], names: dict[str, str]
) -> None:
    before = people_server.dump()
    form = {"csrfmiddlewaretoken": token_of(browsers["bob"]), "thumb": "down", "prompt": "stolen"}
    answers = [
        seen(browsers["bob"].post(f"/ui/calls/{given['$model_call']}/{verb}/", data=form), given)
        for given in (names, missing(names))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert people_server.dump() == before


def test_a_link_a_permit_and_an_upload_are_for_one_file_or_one_owner(
    people_server: PeopleServer, browsers: dict[str, httpx.Client], names: dict[str, str]
) -> None:
    """Whoever has one needs no login, and gets to nothing else."""
    server, alice, bob = people_server.server, people_server.people["alice"], people_server.people["bob"]
    nothing = missing(names)["$document"]
    link = server.rpc("files.link", {"file_id": names["$document"]}, **alice)["url"].partition("?")[2]
    schema = {"properties": {"doc": {"format": "file"}}}
    server.rpc("flows.save", {"name": "asks-for-a-file", "tasks": [{"name": "a"}], "inputs_schema": schema}, **alice)
    form = browsers["alice"].get("/ui/flows/asks-for-a-file/run/").text
    server.rpc("flows.delete", {"name": "asks-for-a-file"}, **alice)
    permit = PERMIT.findall(form)[0]
    file = {"name": "a.txt", "bytes": "4"}
    path, _, upload = server.http.post("/ui/files/", data=file | {"permit": permit}).json()["url"].partition("?")
    sent = path.rpartition("/")[2]
    theirs = server.http.post("/files", params={"name": "b.txt"}, content=b"bob's", headers=bob).json()["$file"]
    assert server.http.get(f"/files/{names['$document']}?{link}").status_code == 200
    for method, of, query in (
        ("GET", theirs, link),  # the link of another file
        ("GET", sent, upload),
        ("PUT", theirs, upload),
        ("PUT", names["$document"], link),
        ("GET", names["$document"], link.replace("link=", "link=x")),
        ("PUT", sent, upload.replace("upload=", "upload=x")),
    ):
        given, absent = (
            server.http.request(method, f"/files/{each}?{query}", content=b"text" if method == "PUT" else None)
            for each in (of, nothing)
        )
        assert seen(given, {"$file": of}) == seen(absent, {"$file": nothing})
        assert given.status_code in (400, 404), given.text
    for wrong in ("", permit + "x", upload.partition("=")[2]):
        assert server.http.post("/ui/files/", data=file | {"permit": wrong}).status_code == 400
    assert server.http.put(f"{path}?{upload}", content=b"text").json()["is_complete"]
    refused = server.http.get(path, headers=bob), server.http.get(f"/files/{nothing}", headers=bob)
    assert seen(refused[0], {"$file": sent}) == seen(refused[1], {"$file": nothing})
    assert server.http.get(path, headers=alice).text == "text"


def test_each_route_of_files_is_in_these_tests() -> None:
    """Those of programs are doors (`doors.py`)."""
    found = {f"/{route}" for route in routes() if "files" in route and not route.startswith("api/")}
    assert found == {
        "/files",
        "/files/",
        "/files/<str:file_id>",
        "/ui/files/",
        "/ui/files/<str:file_id>/",
        "/ui/files/<str:file_id>/preview/",
    }


def routes(patterns: Sequence[Any] | None = None, begins: str = "") -> Iterator[str]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = f"{begins}{pattern.pattern}"
        yield from routes(pattern.url_patterns, route) if hasattr(pattern, "url_patterns") else [route]
