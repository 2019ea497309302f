"""docs/how-to/django.md and docs/examples/django-project: orders of a shop and their runs are stored in one transaction.

The shop is a process of its own, with its own settings, models and migrations. On PostgreSQL the tables of the server have a schema.
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pytest
import yaml

from tests.a2a.a2a_client import SECRET, token_of
from tests.documents import text
from tests.servers import PYTHON, ROOT, Server, environment_of, new_database, query, running_server, until
from tests.shell import Shell, new_shell

EXAMPLE: Final = ROOT / "docs/examples/django-project"
SCHEMA: Final = "aipartnerupflow"
MODULES: Final = "tests.executors_for_tests,tests.patient,orders.workflows"
SETTINGS: Final = {"AIPARTNERUPFLOW_JWT_SECRET": SECRET, "AIPARTNERUPFLOW_EXECUTORS_MODULES": MODULES}
BEGIN: Final = "import django; django.setup(); from django.db import transaction; from orders.models import Order\n"
FULFIL: Final = yaml.safe_load((EXAMPLE / "fulfil.yaml").read_text())
PAGE: Final = "docs/how-to/django.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The project, and the server whose database it shares."""

    folder: Path
    environment: dict[str, str]
    server: Server
    database_url: str

    def run(self, code: str, *, exit_code: int = 0, **variables: str) -> Any:
        """Run code in a process of the project, and return the JSON that it prints last, if any."""
        done = subprocess.run(
            [PYTHON, "-W", "error", "-c", BEGIN + dedent(code)],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None

    def orders(self, customer: str) -> list[tuple[Any, ...]]:
        return query(self.database_url, "SELECT item, task_id FROM orders_order WHERE customer = %s", customer)

    def runs(self, user: str) -> list[tuple[Any, ...]]:
        schema = "" if self.database_url.startswith("sqlite") else f"{SCHEMA}."
        return query(self.database_url, f"SELECT root_id FROM {schema}tasks_run WHERE user_id = %s", user)

    def result(self, user: str, task_id: str) -> Any:
        """Return the result of the root once its run has ended."""

        def ended() -> Any:
            tree = self.server.rpc("tasks.tree", {"task_id": task_id}, **headers(user))
            return tree if tree["status"] in ("completed", "failed") else None

        tree = until(ended, seconds=60, what="the end of the run")
        assert tree["status"] == "completed", tree
        return tree["result"]

    def save_flow(self, user: str) -> None:
        self.server.rpc("flows.save", FULFIL, **headers(user))


def headers(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user)}"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("project") / "shop"
    shutil.copytree(EXAMPLE, folder)
    with new_database(is_bare=True) as url:
        is_sqlite = url.startswith("sqlite")
        own, of_server = {"SHOP_FILE": url.removeprefix("sqlite:///")}, url
        if not is_sqlite:
            own, of_server = libpq_variables(url), _with_schema(url)
        data_dir = tmp_path_factory.mktemp("data")
        environment = environment_of(of_server, data_dir) | SETTINGS | own
        on_path = {"PYTHONPATH": f"{folder}:{ROOT}"}
        environment |= {"DJANGO_SETTINGS_MODULE": "shop.settings"} | on_path
        if not is_sqlite:
            _add_own_users(folder)
        for command in (["makemigrations", "people"] if not is_sqlite else ["check"], ["migrate"]):
            subprocess.run(
                [PYTHON, "manage.py", *command], cwd=folder, env=environment, check=True, capture_output=True
            )
        with running_server(of_server, env=SETTINGS | on_path, data_dir=data_dir, is_forked=False) as server:
            yield Shop(folder=folder, environment=environment, server=server, database_url=url)


def _add_own_users(folder: Path) -> None:
    """Give the project a user model of its own, with which Django's is not there."""
    (folder / "people/migrations").mkdir(parents=True)
    (folder / "people/migrations/__init__.py").touch()
    (folder / "people/__init__.py").touch()
    model = "from django.contrib.auth.models import AbstractUser\n\n\nclass Person(AbstractUser):\n    pass\n"
    (folder / "people/models.py").write_text(model)
    with (folder / "shop/settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["people"]\nAUTH_USER_MODEL = "people.Person"\n')


def _with_schema(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{SCHEMA}"


def _typed(command: list[str], shop: Shop) -> None:
    """Run a command of the server beside it."""
    own = {"AIPARTNERUPFLOW_DATABASE_URL": shop.server.database_url, "DJANGO_SETTINGS_MODULE": "apflow_site.settings"}
    environment = shop.environment | own
    subprocess.run(
        command, cwd=ROOT, env=environment, input="a-long-password-17\n", text=True, check=True, capture_output=True
    )


def libpq_variables(url: str) -> dict[str, str]:
    """Return the variables of PostgreSQL's own that name the database of the URL."""
    parts = urlsplit(url)
    options = {f"PG{name.upper()}": values[0] for name, values in parse_qs(parts.query).items()}
    found = {
        "PGHOST": parts.hostname,
        "PGPORT": parts.port and str(parts.port),
        "PGUSER": parts.username and unquote(parts.username),
        "PGPASSWORD": parts.password and unquote(parts.password),
        "PGDATABASE": parts.path[1:],
    }
    return {name: value for name, value in found.items() if value} | options


@pytest.mark.both_engines
def test_an_order_and_its_run_are_stored_together(shop: Shop) -> None:
    shop.save_flow("ann")
    placed = shop.run(
        """
        from orders.services import place_order
        order = place_order("tea", customer="ann")
        print(f'["{order.pk}", "{order.task_id}"]')
        """
    )
    assert shop.orders("ann") == [("tea", placed[1])]
    assert shop.result("ann", placed[1]) == {"text": f"Order {placed[0]}: packed tea", "pack": {"text": "packed tea"}}


@pytest.mark.both_engines
def test_a_rollback_and_a_refusal_leave_neither(shop: Shop) -> None:
    shop.save_flow("ben")
    refused = shop.run(
        """
        import json
        from aipartnerupflow.django import Refused, start_flow, start_tree
        from orders.services import place_order
        refused = []
        try:
            with transaction.atomic():
                place_order("cup", customer="ben")
                raise LookupError
        except LookupError:
            pass
        for item, customer in (("", "ben"), ("cup", "bea")):  # it does not fit the schema; there is no such flow of hers
            try:
                place_order(item, customer=customer)
            except Refused as error:
                refused.append(error.message)
        with transaction.atomic():  # goes on after a refusal
            order = Order.objects.create(customer="ben", item="pot", task_id="")
            try:
                start_tree([{"name": "A", "schemas": {"method": "no_executor"}}], user="ben")
            except Refused as error:
                refused.append(error.message)
            try:
                start_tree({"name": "A", "inputs": {"at": order}}, user="ben")
            except Refused as error:
                refused.append(error.message)
            try:
                start_flow("fulfil", {"order": 1, "item": "pot"})
            except Refused as error:
                refused.append(error.message)
        print(json.dumps(refused))
        """
    )
    assert shop.orders("ben") == [("pot", "")] and shop.orders("bea") == []
    assert shop.runs("ben") == shop.runs("bea") == []
    starts = (
        "Invalid params: inputs",
        "Flow 'fulfil' not found",
        "Task 'A': executor 'no_executor'",
        "The tasks or inputs",
        "user: required",
    )
    assert [text[: len(start)] for text, start in zip(refused, starts, strict=True)] == list(starts)


@pytest.mark.both_engines
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_kill_leaves_both_or_neither(shop: Shop, is_committed: bool) -> None:
    customer = f"killed-{is_committed}"
    shop.save_flow(customer)
    shop.run(
        """
        import os, signal
        from orders.services import place_order
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
        with transaction.atomic():
            if os.environ["IS_COMMITTED"] == "True":
                transaction.on_commit(die)  # before the workers are notified
            place_order("jug", customer=os.environ["CUSTOMER"])
            if os.environ["IS_COMMITTED"] == "False":
                die()
        """,
        exit_code=-signal.SIGKILL,
        CUSTOMER=customer,
        IS_COMMITTED=str(is_committed),
    )
    runs = shop.runs(customer)
    assert shop.orders(customer) == [("jug", task_id) for (task_id,) in runs]
    assert len(runs) == is_committed
    for (task_id,) in runs:
        assert shop.result(customer, task_id)["pack"] == {"text": "packed jug"}


@pytest.mark.both_engines
def test_a_repetition_starts_nothing_and_a_workflow_gets_its_arguments(shop: Shop) -> None:
    found = shop.run(
        """
        import json
        from aipartnerupflow.django import Refused, start_tree, starting
        from orders.workflows import restock
        task = {"name": "A", "schemas": {"method": "echo_executor"}, "inputs": {"a": "{{run.inputs.a}}"}}
        with transaction.atomic():
            first, again = (start_tree(task, inputs={"a": 7}, user="cat", tags=["x"], idempotency_key="k") for _ in range(2))
        third = start_tree(task, inputs={"a": 7}, user="cat", tags=["x"], idempotency_key="k")
        try:
            start_tree(task, inputs={"a": 8}, user="cat", tags=["x"], idempotency_key="k")
        except Refused as error:
            print(error.message)
        stocked = starting(user="cat").start(restock, ["tea", "cup"], count=2)
        print(json.dumps([first.task_id, again.task_id, third.task_id, stocked.task_id]))
        """
    )
    first, again, third, stocked = found
    assert first == again == third
    assert shop.result("cat", first) == {"a": 7}
    assert shop.result("cat", stocked) == ["2 tea", "2 cup"]
    assert len(shop.runs("cat")) == 2


@pytest.mark.both_engines
def test_what_the_page_shows_works(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings, services = text(PAGE, "Set up the project", "python"), text(PAGE, "Start a run", "python")
    assert settings in (EXAMPLE / "shop/settings.py").read_text()
    assert services in (EXAMPLE / "orders/services.py").read_text()
    assert f"options=-csearch_path%3D{SCHEMA}" in text(PAGE, "Share the database", "sh")  # as in `_with_schema`
    client = {"AIPARTNERUPFLOW_URL": shop.server.url, "AIPARTNERUPFLOW_TOKEN": token_of("local")}
    shell = new_shell(tmp_path_factory)
    environment = shell.environment | shop.environment | {"PATH": shell.environment["PATH"]} | client
    shown = Shell(folder=shop.folder, environment=environment).run(text(PAGE, "Start a run", "sh"))
    ((item, task_id),) = shop.orders("local")
    assert item == "tea" and task_id in shown.splitlines()
    assert shop.result("local", task_id)["pack"] == {"text": "packed tea"}


@pytest.mark.both_engines
def test_a_viewer_and_a_disabled_user_start_nothing(shop: Shop) -> None:
    command = [PYTHON, "-m", "aipartnerupflow", "users"]
    for name, role in (("vic", "viewer"), ("dora", "operator")):
        _typed([*command, "create", name, "--role", role], shop)
    _typed([*command, "disable", "dora"], shop)
    refused = shop.run(
        """
        import json
        from aipartnerupflow.django import Refused, start_tree
        refused = []
        for user in ("vic", "dora", " ", ""):
            try:
                start_tree({"name": "A", "schemas": {"method": "echo_executor"}}, user=user)
            except Refused as error:
                refused.append(error.message)
        print(json.dumps(refused))
        """
    )
    assert len(refused) == 4 and all("may start no runs" in message for message in refused)


def test_a_project_that_cannot_start_runs_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(EXAMPLE, folder)
    environment = environment_of("", tmp_path) | {
        "PYTHONPATH": f"{folder}:{ROOT}",
        "DJANGO_SETTINGS_MODULE": "shop.settings",
    }

    def error(code: str, *command: str, **variables: str) -> str:
        program = [PYTHON, *(command or ("-c", BEGIN + code))]
        done = subprocess.run(program, cwd=folder, env=environment | variables, capture_output=True, text=True)
        assert done.returncode
        return done.stderr.strip().splitlines()[-1]

    no_tables = error("from aipartnerupflow.django import start_flow; start_flow('fulfil')")
    assert "has no tables of aipartnerupflow" in no_tables
    wrong = error("", AIPARTNERUPFLOW_LIMITS_BODY_BYTES="many")
    assert "AIPARTNERUPFLOW_LIMITS_BODY_BYTES" in wrong
    other = error("", "-m", "aipartnerupflow", "users", "list")
    assert "DJANGO_SETTINGS_MODULE is 'shop.settings'" in other
    (folder / "accounts").mkdir()
    (folder / "accounts/__init__.py").touch()
    assert "This project has a package 'accounts'" in error("")
