"""One real server with authentication on, its people, and a browser's session for each of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import httpx
import pytest

from tests.fork_server import printed_by
from tests.servers import NOT_KEPT, WITH_EXAMPLES, Server, environment_of, new_database, running_server

PASSWORD: Final = "open sesame 42"
SECRET: Final = "a-secret-of-the-tests-that-is-long-enough-0123456789"
PEOPLE: Final = {"root": "admin", "olga": "operator", "vera": "viewer"}

CREATE: Final = """
import sys, django
from aipartnerupflow import bootstrap
bootstrap()
django.setup()
from accounts.callers import Role
from accounts.users import create_user
from apflow_site.prepare import prepare
prepare()
for person in sys.argv[2:]:
    name, role = person.split("=")
    create_user(name, password=sys.argv[1], role=Role[role.upper()])
"""
CREATE_KEY: Final = """
import sys, django
from aipartnerupflow import bootstrap
bootstrap()
django.setup()
from accounts.api_keys import create_key
from accounts.users import user_named
print(create_key(user_named(sys.argv[1]), name="of the tests")[1])
"""

Session = httpx.Client


def create_people(people: Mapping[str, str], *, env: Mapping[str, str]) -> None:
    """Create the users, name → role, in the database of the environment."""
    printed_by(CREATE, PASSWORD, *(f"{name}={role}" for name, role in people.items()), env=env)


@pytest.fixture(scope="package")
def admin_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("admin")
    with new_database() as database_url:
        create_people(PEOPLE, env=environment_of(database_url, folder))
        settings = {"AIPARTNERUPFLOW_JWT_SECRET": SECRET, "AIPARTNERUPFLOW_SERVER_TRUSTED_PROXIES": "127.0.0.1"}
        with running_server(database_url, env=settings | WITH_EXAMPLES, data_dir=folder) as server:
            yield server


@contextmanager
def session_of(name: str, server: Server, password: str = PASSWORD) -> Iterator[Session]:
    """Somebody who has logged in by the page, and follows no redirect by themselves."""
    with httpx.Client(base_url=server.url, timeout=60, limits=NOT_KEPT) as session:
        form = {"username": name, "password": password, "csrfmiddlewaretoken": csrf_token(session.get("/login/").text)}
        response = session.post("/login/", data=form)
        assert response.status_code == 302, response.text
        yield session


@pytest.fixture(scope="package")
def sessions(admin_server: Server) -> Iterator[Callable[[str], Session]]:
    """A session by name, each logged in once."""
    with ExitStack() as stack:
        known: dict[str, Session] = {}

        def session(name: str) -> Session:
            if name not in known:
                known[name] = stack.enter_context(session_of(name, admin_server))
            return known[name]

        yield session


@pytest.fixture
def admin(sessions: Callable[[str], Session]) -> Session:
    return sessions("root")


@pytest.fixture
def rpc(admin_server: Server) -> Callable[..., Any]:
    """Call a method as somebody, with a token."""
    tokens: dict[str, str] = {}

    def rpc(method: str, params: Any, *, name: str = "olga", **headers: str) -> Any:
        if name not in tokens:
            login = admin_server.http.post("/auth/login", json={"username": name, "password": PASSWORD})
            tokens[name] = login.json()["access"]
        return admin_server.rpc(method, params, **{"Authorization": f"Bearer {tokens[name]}", **headers})

    return rpc


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page
    return found[1]


def act(session: Session, action: str, *task_ids: str, **fields: str) -> httpx.Response:
    """What the list does with an action and some ticked rows; then the page where it leads."""
    url = "/admin/tasks/task/?rows=all"
    form = {"action": action, "_selected_action": task_ids, "csrfmiddlewaretoken": csrf_token(session.get(url).text)}
    return session.post(url, data={**form, **fields}, follow_redirects=True)


@pytest.fixture
def api_key(admin_server: Server) -> Callable[[str], str]:
    """A new API key of somebody: its text, which only they see."""

    def api_key(name: str) -> str:
        environment = environment_of(admin_server.database_url, admin_server.data_dir)
        return printed_by(CREATE_KEY, name, env=environment).strip()

    return api_key
