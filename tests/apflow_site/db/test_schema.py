"""The migrations of the installed version, and databases of earlier checkouts, whose migrations it replaces.

`earlier_checkout.*.sql` are such databases, with a tree that has run, as the last of these checkouts made them.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader

from apflow_site.db import schema
from apflow_site.db.schema import AddIndexBeside, RemoveIndexBeside
from tests.conftest import IS_SQLITE
from tests.fork_server import run_command
from tests.servers import environment_of, new_database, query, running_server, until

SCHEMA = {
    True: "SELECT type, name, sql FROM sqlite_master",
    False: """
    SELECT 'column', table_name || '.' || row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position), concat_ws(' ', column_name, data_type,
        character_maximum_length, column_default, is_nullable, identity_generation)
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'relation', relname, concat_ws(' ', relkind, reloptions, pg_get_viewdef(oid))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    """,
}


def schema_of(database_url: str) -> list[str]:
    """Every column, index, constraint, trigger and view of the database, however its definition is wrapped."""
    found = query(database_url, SCHEMA[IS_SQLITE])
    return sorted("".join(f"{kind} {name} {definition}".split()) for kind, name, definition in found)


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[str]:
    """The URL of a database of an earlier checkout."""
    dump = Path(__file__).with_name(f"earlier_checkout.{'sqlite' if IS_SQLITE else 'postgres'}.sql").read_text()
    with new_database(is_bare=True) as url:
        if IS_SQLITE:
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
                file.executescript(dump)
        else:
            with psycopg.connect(url) as server:
                server.execute(dump)
        yield url


def test_the_migrations_that_are_known_are_those_that_django_finds() -> None:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    assert schema._files() == set(loader.disk_migrations)
    replacing = {key: frozenset(each.replaces) for key, each in loader.disk_migrations.items() if each.replaces}
    assert schema._replaced() == replacing


@pytest.mark.both_engines
def test_a_database_of_an_earlier_checkout_is_taken_over_by_the_first_start(earlier: str, tmp_path: Path) -> None:
    planned = run_command("migrate", "--plan", env=environment_of(earlier, tmp_path)).stdout
    assert planned.count("Record that the migrations that it replaces are applied") == 4
    with running_server(earlier) as server:
        assert server.rpc("tasks.get", {"task_id": "earlier"})["status"] == "completed"
        assert server.rpc("tasks.count", {})["completed"] == 2
        server.rpc("tasks.execute", {"task_id": "earlier"})
        ran_twice = "SELECT count(*) FROM tasks_run WHERE root_id = 'earlier' AND status = 'completed'"
        until(lambda: server.query(ran_twice) == [(2,)], seconds=60, what="the end of its second run")
    assert run_command("migrate", "--check", env=environment_of(earlier, tmp_path)).returncode == 0
    with new_database() as new:
        assert schema_of(earlier) == schema_of(new)


@pytest.mark.both_engines
def test_a_database_that_lacks_replaced_migrations_is_refused_with_what_to_do(earlier: str, tmp_path: Path) -> None:
    query(earlier, "DELETE FROM django_migrations WHERE app = 'tasks' AND name > '0056'")
    before = schema_of(earlier)
    for command in (["serve"], ["worker"], ["migrate"], ["migrate", "--plan"]):
        refused = run_command(*command, env=environment_of(earlier, tmp_path))
        message = " ".join(refused.stderr.split())
        assert (refused.returncode, "tasks.0056_suspected_since, tasks.0057_index_of_suspects" in message) == (2, True)
        assert "docs/support.md, under “Upgrade to 1.0.0”" in message
    assert schema_of(earlier) == before


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_an_index_is_added_and_removed_outside_of_a_transaction() -> None:
    """As migrations do beside writers. An attempt that failed on PostgreSQL has left an index that is replaced."""
    state, found = MigrationLoader(connection).project_state(), []
    index = models.Index(fields=["name"], name="of_this_test")
    added, removed = AddIndexBeside("task", index), RemoveIndexBeside("task", "of_this_test")
    with connection.schema_editor(atomic=False) as editor:
        for operation in [added, removed] if IS_SQLITE else [added, added, removed]:
            before, state = state, state.clone()
            operation.state_forwards("tasks", state)
            operation.database_forwards("tasks", editor, before, state)
            with connection.cursor() as cursor:
                found.append(index.name in connection.introspection.get_constraints(cursor, "tasks_task"))
    assert found[-2:] == [True, False]
